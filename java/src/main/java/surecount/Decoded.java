package surecount;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeutils.base.LongSerializer;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.types.Row;

/**
 * Sorts what Python's decoding sends, and makes the watermarks. It gets rows of a number and bytes:
 *
 * <ul>
 *   <li>0 and more: a bucket and a piece for it, which goes on;
 *   <li>-1: a block of rejected records ({@link Outgoing}), which go to the side;
 *   <li>-2: the end of a batch. Its bytes, little-endian: int32 number of the batch, int32 number of entries, and for
 *       each int32 number of a topic, int32 partition, int64 time for the watermark, int64 newest event time, {@link
 *       PartitionWatermarks#NONE} for none. Each partition that the batch has a pack of has an entry.
 * </ul>
 *
 * <p>Every batch ends, in the order of their numbers. A watermark is sent behind the pieces of the batch that moves it,
 * and as time passes. While all partitions of the subtask are idle, so is its output, and watermarks by the clock hold
 * nobody back. Of event times only the newest is in snapshots, so that the clock goes on from there after a restart.
 */
public final class Decoded extends AbstractStreamOperator<Row> implements OneInputStreamOperator<Row, Row> {

    private static final long serialVersionUID = 1L;

    static final int REJECTS = -1;
    static final int END = -2;

    static final long TICK_MS = 200;

    /** Between two watermarks of an idle subtask. */
    static final long CLOCK_MS = 1_000;

    private final ArrayList<String> topics;
    private final Watermarks watermarks;

    private transient ListState<Long> newest;
    private transient Wholes wholes;
    private transient PartitionWatermarks marks;
    private transient String clientId;
    private transient Map<List<Integer>, Split> splits;
    private transient int batch;
    private transient long sent;
    private transient long sentMs;
    private transient boolean isOutputIdle;
    private transient boolean isEnded;

    /** A partition's metrics, as Flink's own sources have them; another thread reads them. */
    private static final class Split {
        private volatile long watermark = PartitionWatermarks.NONE;
        private volatile boolean isIdle;
    }

    /** Without {@code watermarks} (null) none is made but the last one, and nothing waits for others. */
    public Decoded(List<String> topics, Watermarks watermarks) {
        this.topics = new ArrayList<>(topics);
        this.watermarks = watermarks;
    }

    @Override
    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        if (watermarks != null) {
            marks = watermarks.start();
            // No union of all subtasks: Flink takes no checkpoint of that once one subtask has ended.
            newest = context.getOperatorStateStore()
                    .getListState(new ListStateDescriptor<>("newest", LongSerializer.INSTANCE));
            for (long ms : newest.get()) {
                marks.restore(ms);
            }
        }
    }

    @Override
    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        if (marks != null) {
            newest.update(List.of(marks.newest()));
        }
    }

    @Override
    public void open() throws Exception {
        super.open();
        wholes = Wholes.of(getContainingTask());
        splits = new HashMap<>();
        sent = PartitionWatermarks.NONE;
        if (watermarks != null) {
            clientId = watermarks.clientId(getRuntimeContext().getTaskInfo().getIndexOfThisSubtask());
        }
        tickIn(TICK_MS);
    }

    private void tickIn(long ms) {
        long next = getProcessingTimeService().getCurrentProcessingTime() + ms;
        getProcessingTimeService().registerTimer(next, this::tick);
    }

    private void tick(long scheduledMs) {
        if (isEnded) {
            return;
        }
        if (marks == null) {
            setIdle(true);
            return;
        }
        long nowMs = getProcessingTimeService().getCurrentProcessingTime();
        marks.tick(nowMs, Fetches.isFetching(clientId, nowMs));
        send(nowMs);
        splits.forEach((id, split) -> {
            split.watermark = marks.watermark(id.get(0), id.get(1));
            split.isIdle = marks.isIdle(id.get(0), id.get(1));
        });
        tickIn(TICK_MS);
    }

    @Override
    public void processElement(StreamRecord<Row> element) {
        Row row = element.getValue();
        int number = (Integer) row.getField(0);
        if (number >= 0) {
            output.collect(element);
            return;
        }
        byte[] bytes = (byte[]) row.getField(1);
        switch (number) {
            case REJECTS:
                Outgoing.rejects(
                        bytes,
                        (pack, start, size) -> wholes.value(batch, pack, start, size),
                        record -> output.collect(Outgoing.REJECTS, new StreamRecord<>(record)));
                break;
            case END:
                end(Pack.view(bytes));
                break;
            default:
                throw new IllegalStateException("no such kind of row: " + number);
        }
    }

    private void end(ByteBuffer from) {
        int ended = from.getInt();
        if (ended != batch) {
            throw new IllegalStateException("batch " + ended + " has ended, but batch " + batch + " is next");
        }
        wholes.drop(batch);
        batch++;
        int entries = from.getInt();
        if (marks == null) {
            return;
        }
        long nowMs = getProcessingTimeService().getCurrentProcessingTime();
        for (int i = 0; i < entries; i++) {
            int topic = from.getInt();
            int partition = from.getInt();
            marks.seen(topic, partition, from.getLong(), from.getLong(), nowMs);
            splits.computeIfAbsent(List.of(topic, partition), id -> split(topic, partition));
        }
        send(nowMs);
    }

    private Split split(int topic, int partition) {
        Split split = new Split();
        MetricGroup group = getMetricGroup()
                .addGroup("split", topics.get(topic) + "-" + partition)
                .addGroup("watermark");
        group.gauge("currentWatermark", () -> split.watermark);
        group.gauge("idleTimeMsPerSecond", () -> split.isIdle ? 1000L : 0L);
        return split;
    }

    private void send(long nowMs) {
        if (isEnded) {
            return;
        }
        boolean isIdle = marks.isIdle();
        long mark = marks.watermark();
        if (mark > sent && (!isIdle || nowMs - sentMs >= CLOCK_MS)) {
            send(new Watermark(mark));
            sent = mark;
            sentMs = nowMs;
        }
        setIdle(isIdle);
    }

    /** Flink drops a watermark that comes from an idle output. */
    private void send(Watermark mark) {
        setIdle(false);
        output.emitWatermark(mark);
    }

    private void setIdle(boolean isIdle) {
        if (isIdle != isOutputIdle) {
            isOutputIdle = isIdle;
            output.emitWatermarkStatus(isIdle ? WatermarkStatus.IDLE : WatermarkStatus.ACTIVE);
        }
    }

    @Override
    public void processWatermark(Watermark mark) {
        if (mark.getTimestamp() == Long.MAX_VALUE) {
            isEnded = true;
            send(mark);
        }
    }

    @Override
    public void processWatermarkStatus(WatermarkStatus status) {}
}
