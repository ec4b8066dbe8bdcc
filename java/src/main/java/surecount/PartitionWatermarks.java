package surecount;

import java.io.Serializable;
import java.util.HashMap;
import java.util.Map;

/**
 * The watermark of a subtask, from the event times of the partitions that it reads. Times are ms since 1970; {@link
 * #NONE} where there is none.
 *
 * <ul>
 *   <li>The mark of a partition is its largest time, less {@code behindMs}. The watermark is the least mark of all
 *       partitions that are not idle, and none while one of them has no mark. It never goes back.
 *   <li>A time more than {@code aheadMs} after the clock moves nothing. One after the clock counts as the clock.
 *   <li>A partition is idle once no time of it has come for {@code idleAfterMs}. That is measured in ticks while Kafka
 *       answers, so neither a blocked thread nor a broker that is away makes a partition idle.
 *   <li>A subtask that has had no partition for {@link #UNASSIGNED_MS} is idle, or after {@code idleAfterMs} if that is
 *       shorter: there are more subtasks than partitions, and the others shall not wait for it after each start.
 *   <li>While all are idle, and nothing has come for a while, the watermark goes on with the clock from the newest event
 *       time, so that the last windows close: see {@link Clock}. It never passes the clock.
 * </ul>
 */
final class PartitionWatermarks {

    static final long NONE = Long.MIN_VALUE;

    /**
     * How the clock moves the watermark: once nothing has come for {@code afterMs}, and {@code behindMs} behind the event
     * time that a record would have now.
     */
    record Clock(long afterMs, long behindMs) implements Serializable {}

    /** What counts of the time between two ticks at most; ticks come each 200 ms. */
    static final long LONGEST_TICK_MS = 400;

    /** Flink assigns partitions as soon as a subtask has registered. */
    static final long UNASSIGNED_MS = 5_000;

    private final long behindMs;
    private final long idleAfterMs;
    private final long aheadMs;
    private final Clock clock;

    private final Map<Long, Partition> partitions = new HashMap<>();
    private long watermark = NONE;
    private long newestMs = NONE;

    /** Since an event time of any partition came, or a partition was announced. */
    private final Quiet quiet = new Quiet();

    private long tickedMs = NONE;
    private long nowMs = NONE;

    /** For how long nothing has come: the ticks that began since. */
    private static final class Quiet {
        private long ms;
        private boolean isNew = true;

        void restart() {
            ms = 0;
            isNew = true;
        }

        void tick(long passedMs) {
            ms += isNew ? 0 : passedMs;
            isNew = false;
        }
    }

    private static final class Partition {
        private long mark = NONE;
        private final Quiet quiet = new Quiet();
    }

    /** With an {@code idleAfterMs} of 0 nothing is ever idle; without a {@code clock} (null) records alone move time. */
    PartitionWatermarks(long behindMs, long idleAfterMs, long aheadMs, Clock clock) {
        this.behindMs = behindMs;
        this.idleAfterMs = idleAfterMs;
        this.aheadMs = aheadMs;
        this.clock = clock;
    }

    /** The newest event time of all partitions, which a restart needs to go on with the clock. */
    long newest() {
        return newestMs;
    }

    /** The newest event time of before a restart. */
    void restore(long newestMs) {
        this.newestMs = Math.max(this.newestMs, newestMs);
    }

    /** A partition is read from now on; nothing where that is known. */
    void announce(int topic, int partition) {
        of(topic, partition);
    }

    private Partition of(int topic, int partition) {
        return partitions.computeIfAbsent(key(topic, partition), key -> {
            quiet.restart();
            return new Partition();
        });
    }

    private static long key(int topic, int partition) {
        return (long) topic << Integer.SIZE | partition & 0xFFFFFFFFL;
    }

    /** Records of a partition had these times: one for its mark, and the newest event time. Either may be NONE. */
    void seen(int topic, int partition, long timeMs, long newestMs, long nowMs) {
        this.nowMs = nowMs;
        Partition found = of(topic, partition);
        if (counts(timeMs, nowMs)) {
            found.mark = Math.max(found.mark, Math.min(timeMs, nowMs) - behindMs);
            found.quiet.restart();
            quiet.restart();
        }
        if (counts(newestMs, nowMs)) {
            this.newestMs = Math.max(this.newestMs, Math.min(newestMs, nowMs));
            quiet.restart();
        }
    }

    private boolean counts(long timeMs, long nowMs) {
        return timeMs != NONE && timeMs <= nowMs + aheadMs;
    }

    /** Time has passed; {@code isFetching} where Kafka answered meanwhile. */
    void tick(long nowMs, boolean isFetching) {
        long between = tickedMs == NONE ? 0 : Math.max(0, Math.min(nowMs - tickedMs, LONGEST_TICK_MS));
        this.nowMs = nowMs;
        tickedMs = nowMs;
        // A subtask without partitions has no consumer.
        long passed = isFetching || partitions.isEmpty() ? between : 0;
        quiet.tick(passed);
        partitions.values().forEach(partition -> partition.quiet.tick(passed));
    }

    /** The watermark as it is now. */
    long watermark() {
        long found = isIdle() ? byClock() : leastMark();
        watermark = Math.max(watermark, found);
        return watermark;
    }

    private long leastMark() {
        long least = Long.MAX_VALUE;
        for (Partition partition : partitions.values()) {
            if (!isIdle(partition)) {
                least = Math.min(least, partition.mark);
            }
        }
        return partitions.isEmpty() ? NONE : least;
    }

    private long byClock() {
        if (clock == null || newestMs == NONE || quiet.ms < clock.afterMs()) {
            return NONE;
        }
        return Math.min(newestMs + quiet.ms - clock.behindMs(), nowMs);
    }

    /** Whether nothing waits for this subtask: all its partitions are idle, or it has none. */
    boolean isIdle() {
        if (partitions.isEmpty()) {
            return idleAfterMs > 0 && quiet.ms >= Math.min(idleAfterMs, UNASSIGNED_MS);
        }
        for (Partition partition : partitions.values()) {
            if (!isIdle(partition)) {
                return false;
            }
        }
        return true;
    }

    private boolean isIdle(Partition partition) {
        return idleAfterMs > 0 && partition.quiet.ms >= idleAfterMs;
    }

    boolean isIdle(int topic, int partition) {
        Partition found = partitions.get(key(topic, partition));
        return found != null && isIdle(found);
    }

    /** The mark of a partition. */
    long watermark(int topic, int partition) {
        Partition found = partitions.get(key(topic, partition));
        return found == null ? NONE : found.mark;
    }
}
