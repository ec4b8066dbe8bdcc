package surecount;

import java.io.Serializable;

/** How {@link Decoded} makes watermarks for the partitions of a source. */
public final class Watermarks implements Serializable {

    private static final long serialVersionUID = 1L;

    private final long behindMs;
    private final long idleAfterMs;
    private final long aheadMs;
    private final PartitionWatermarks.Clock clock;
    private final String clientIdPrefix;

    /**
     * See {@link PartitionWatermarks}; with a {@code clockAfterMs} of 0 the clock moves nothing. The prefix is the property
     * {@code client.id.prefix} of the source.
     */
    public Watermarks(
            long behindMs,
            long idleAfterMs,
            long aheadMs,
            long clockAfterMs,
            long clockBehindMs,
            String clientIdPrefix) {
        this.behindMs = behindMs;
        this.idleAfterMs = idleAfterMs;
        this.aheadMs = aheadMs;
        this.clock = clockAfterMs == 0 ? null : new PartitionWatermarks.Clock(clockAfterMs, clockBehindMs);
        this.clientIdPrefix = clientIdPrefix;
    }

    PartitionWatermarks start() {
        return new PartitionWatermarks(behindMs, idleAfterMs, aheadMs, clock);
    }

    /** The client id of a subtask's consumer, as Flink's Kafka source makes it. */
    String clientId(int subtask) {
        return clientIdPrefix + "-" + subtask;
    }
}
