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

    private final int mostRecords;
    private final int mostBytes;
    private final long mostMs;

    private transient List<byte[]> packs;
    private transient int records;
    private transient long bytes;
    private transient boolean hasWholes;
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
            flush();
        }
        if (packs.isEmpty()) {
            since = getProcessingTimeService().getCurrentProcessingTime();
            watch();
        }
        packs.add(pack);
        records += count;
        bytes += counted;
        hasWholes |= whole > 0;
        if (records >= mostRecords || bytes >= mostBytes) {
            flush();
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
                    flush();
                } else {
                    watch();
                }
            });
        }
    }

    private void flush() {
        if (packs.isEmpty()) {
            return;
        }
        if (hasWholes) {
            wholes.put(number, packs.toArray(new byte[0][]));
        }
        byte[] batch = batch(packs, number);
        packs.clear();
        records = 0;
        bytes = 0;
        hasWholes = false;
        number++;
        output.collect(new StreamRecord<>(batch));
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
            flush();
            super.processWatermark(mark);
        }
    }

    @Override
    public void processWatermarkStatus(WatermarkStatus status) {}

    @Override
    public void prepareSnapshotPreBarrier(long checkpoint) {
        flush();
    }

    @Override
    public void endInput() {
        flush();
    }
}
