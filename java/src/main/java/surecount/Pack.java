package surecount;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * The layout of a pack: consecutive records of a partition as one array of bytes. {@link Packer} makes packs, {@link
 * Batcher} puts them together, and {@code udfs/packs.py} reads them. Numbers are little-endian.
 *
 * <pre>
 *  0  int32     magic
 *  4  int32     layout
 *  8  int32     number of the topic among those of the job
 * 12  int32     partition
 * 16  int32     number of records; 0 in an announcement of the partition
 * 20  6 int32   lengths of the six parts
 * 44            the parts
 * </pre>
 *
 * <ol>
 *   <li>The index: for each record its offset and timestamp, 8 bytes each, then length of key, length of value in part
 *       2, number of headers, and length of the value as it came, 4 bytes each. A length of -1 is null.
 *   <li>The values, one after the other, projected ({@link Projection}) where that saves half of them. A value that is
 *       too large has a length of 0.
 *   <li>The keys, one after the other.
 *   <li>For each header of the records the lengths of its name and its value, 4 bytes each.
 *   <li>The headers, name and value in turns.
 *   <li>The values as they came, where part 2 has others; else empty.
 * </ol>
 */
final class Pack {

    static final int LAYOUT = 4;

    /** "SCPK". */
    static final int MAGIC = 0x4B504353;

    static final int TOPIC_AT = 8;
    static final int PARTITION_AT = 12;
    static final int RECORDS_AT = 16;
    static final int LENGTHS_AT = 20;
    static final int PARTS = 6;
    static final int HEAD_BYTES = LENGTHS_AT + PARTS * Integer.BYTES;
    static final int ENTRY_BYTES = 32;
    static final int HEADER_ENTRY_BYTES = 8;

    private Pack() {}

    /** A pack of no records: it only says that the partition is read. */
    static byte[] announcement(int topic, int partition) {
        ByteBuffer pack = buffer(HEAD_BYTES);
        pack.putInt(MAGIC).putInt(LAYOUT).putInt(topic).putInt(partition);
        return pack.array();
    }

    /** What is wrong with bytes that should be a pack; null where nothing is. */
    static String fault(byte[] bytes) {
        if (bytes == null || bytes.length < HEAD_BYTES || view(bytes).getInt(0) != MAGIC) {
            return "raw records where packs are expected: the consumer has no " + PackingInterceptor.class.getName();
        }
        int layout = view(bytes).getInt(4);
        return layout == LAYOUT ? null : "packs of layout " + layout + " where " + LAYOUT + " is expected";
    }

    static ByteBuffer view(byte[] pack) {
        return ByteBuffer.wrap(pack).order(ByteOrder.LITTLE_ENDIAN);
    }

    static ByteBuffer buffer(int size) {
        return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
    }
}
