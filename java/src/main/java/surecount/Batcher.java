package surecount;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.BoundedOneInput;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;

/**
 * Gathers packs into batches for Python, each one array of bytes. {@code udfs/packs.py} reads it. Numbers are
 * little-endian.
 *
 * <pre>
 *  0  int32                magic
 *  4  int32                layout
 *  8  int32                number of packs p
 * 12  int32                number of the batch: they count up, and wrap
 * 16  p int32              numbers of the packs' topics
 *     p int32              partitions of the packs
 *     5 times p + 1 int32  where the first five parts of each pack begin in their column, and the end
 *                          five columns: part 1 of all packs, part 2 of all packs, and so on
 * </pre>
 *
 * <p>Whole values stay here, in {@link Wholes}, for {@link Decoded}. A batch ends at a number of records or bytes,
 * after some time, before a checkpoint's barrier, and where the input ends. So there is no state.
 *
 * <p>While records wait to be read, several batches go to Python before the task waits for its answer. Each has a
 * timestamp, {@link #LAST} or {@link #MORE}: the last one is not full, or what is on its way is enough.
 *
 * <p>{@link Decoded} makes the watermarks, so none passes here but the last one.
 */
public final class Batcher extends AbstractStreamOperator<byte[]>
        implements OneInputStreamOperator<byte[], byte[]>, BoundedOneInput {

    private static final long serialVersionUID = 1L;

    /** "SCBA". */
    static final int MAGIC = 0x41424353;

    static final int HEAD_BYTES = 16;

    /** The parts of a pack that cross: all but whole values. */
    static final int COLUMNS = Pack.PARTS - 1;

    /** Timestamps of batches: whether the task waits for Python now. */
    static final long MORE = 0;

    static final long LAST = 1;

    /** What may be on its way to Python, in direct memory, and one batch more. */
    private static final int MOST_SENT = 48 << 20;

    /** How many bytes of whole values may wait on the heap for what Python answers, and those of one batch more. */
    private static final int MOST_WHOLE = 128 << 20;

    private final int mostRecords;
    private final int mostBytes;
    private final long mostMs;

    private transient List<byte[]> packs;
    private transient int records;
    private transient long bytes;
    private transient long wholeBytes;

    /** Of batches since the last one that the task waited for. */
    private transient long sentBytes;

    private transient long sentWholeBytes;
    private transient int number;
    private transient Wholes wholes;

    /** When the first pack of the batch came. */
    private transient long since;

    private transient boolean isTimed;

    /**
     * The limits of a batch: {@code mostRecords} and {@code mostBytes}, unless one pack has more; and the time {@code
     * mostMs} that a pack waits at most. Bytes of whole values count a quarter: they do not cross.
     */
    public Batcher(int mostRecords, int mostBytes, long mostMs) {
        this.mostRecords = mostRecords;
        this.mostBytes = mostBytes;
        this.mostMs = mostMs;
    }

    @Override
    public void open() throws Exception {
        super.open();
        packs = new ArrayList<>();
        wholes = Wholes.of(getContainingTask());
    }

    @Override
    public void processElement(StreamRecord<byte[]> element) {
        byte[] pack = element.getValue();
        ByteBuffer view = Pack.view(pack);
        int count = view.getInt(Pack.RECORDS_AT);
        int whole = length(view, COLUMNS);
        int counted = pack.length - whole + whole / 4;
        if (!packs.isEmpty() && (records + count > mostRecords || bytes + counted > mostBytes)) {
            flush(true);
        }
        if (packs.isEmpty()) {
            since = getProcessingTimeService().getCurrentProcessingTime();
            watch();
        }
        packs.add(pack);
        records += count;
        bytes += counted;
        wholeBytes += whole;
        if (records >= mostRecords || bytes >= mostBytes) {
            flush(true);
        }
    }

    /** One timer at a time: batches that are full before it would leave one each. */
    private void watch() {
        if (!isTimed) {
            isTimed = true;
            getProcessingTimeService().registerTimer(since + mostMs, now -> {
                isTimed = false;
                if (packs.isEmpty()) {
                    return;
                }
                if (now >= since + mostMs) {
                    flush(false);
                } else {
                    watch();
                }
            });
        }
    }

    private void flush(boolean isFull) {
        if (packs.isEmpty()) {
            return;
        }
        if (wholeBytes > 0) {
            wholes.put(number, packs.toArray(new byte[0][]));
        }
        byte[] batch = batch(packs, number);
        sentBytes += batch.length;
        sentWholeBytes += wholeBytes;
        boolean isLast = !isFull || sentBytes >= MOST_SENT || sentWholeBytes >= MOST_WHOLE;
        if (isLast) {
            sentBytes = 0;
            sentWholeBytes = 0;
        }
        packs.clear();
        records = 0;
        bytes = 0;
        wholeBytes = 0;
        number++;
        output.collect(new StreamRecord<>(batch, isLast ? LAST : MORE));
    }

    /** The batch of some packs. */
    static byte[] batch(List<byte[]> packs, int number) {
        int count = packs.size();
        ByteBuffer[] views = new ByteBuffer[count];
        int[] sizes = new int[COLUMNS];
        for (int i = 0; i < count; i++) {
            views[i] = Pack.view(packs.get(i));
            for (int column = 0; column < COLUMNS; column++) {
                sizes[column] = Math.addExact(sizes[column], length(views[i], column));
            }
        }
        int head = HEAD_BYTES + Integer.BYTES * (2 * count + COLUMNS * (count + 1));
        int[] at = new int[COLUMNS];
        long total = head;
        for (int column = 0; column < COLUMNS; column++) {
            at[column] = (int) total;
            total += sizes[column];
        }
        ByteBuffer to = Pack.buffer(Math.toIntExact(total));
        to.putInt(MAGIC).putInt(Pack.LAYOUT).putInt(count).putInt(number);
        for (ByteBuffer view : views) {
            to.putInt(view.getInt(Pack.TOPIC_AT));
        }
        for (ByteBuffer view : views) {
            to.putInt(view.getInt(Pack.PARTITION_AT));
        }
        for (int column = 0; column < COLUMNS; column++) {
            int bound = 0;
            to.putInt(bound);
            for (ByteBuffer view : views) {
                bound += length(view, column);
                to.putInt(bound);
            }
        }
        byte[] batch = to.array();
        for (int i = 0; i < count; i++) {
            int from = Pack.HEAD_BYTES;
            for (int column = 0; column < COLUMNS; column++) {
                int length = length(views[i], column);
                System.arraycopy(packs.get(i), from, batch, at[column], length);
                from += length;
                at[column] += length;
            }
        }
        return batch;
    }

    private static int length(ByteBuffer pack, int part) {
        return pack.getInt(Pack.LENGTHS_AT + Integer.BYTES * part);
    }

    @Override
    public void processWatermark(Watermark mark) throws Exception {
        if (mark.getTimestamp() == Long.MAX_VALUE) {
            flush(false);
            super.processWatermark(mark);
        }
    }

    @Override
    public void processWatermarkStatus(WatermarkStatus status) {}

    @Override
    public void prepareSnapshotPreBarrier(long checkpoint) {
        flush(false);
    }

    @Override
    public void endInput() {
        flush(false);
    }
}
