package surecount;

import java.nio.ByteBuffer;
import java.util.function.Consumer;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.java.typeutils.ObjectArrayTypeInfo;
import org.apache.flink.util.OutputTag;

/**
 * A record to be written: its timestamp (int64, or null), key, value, and names and values of its headers in turns. All
 * but names may be null.
 *
 * <p>Rejected records come from Python in blocks. Numbers are little-endian.
 *
 * <pre>
 *  0  int32   magic
 *  4  int32   layout
 *  8  int32   number of records
 * 12          for each record:
 *     int32   pack of the batch that holds the value, -1 where it is here
 *     int32   where the value begins among the whole values of the pack
 *     int32   its length
 *     int32   number of parts
 *             for each part int32 length (-1 null), and the bytes: key, value, names and values of headers in turns
 * </pre>
 */
public final class Outgoing {

    public static final TypeInformation<byte[][]> TYPE =
            ObjectArrayTypeInfo.getInfoFor(byte[][].class, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO);

    public static final OutputTag<byte[][]> REJECTS = new OutputTag<>("rejects", TYPE);
    public static final OutputTag<byte[][]> CORRECTIONS = new OutputTag<>("corrections", TYPE);
    public static final OutputTag<byte[][]> DUPLICATES = new OutputTag<>("duplicates", TYPE);

    static final int TIMESTAMP = 0;
    static final int KEY = 1;
    static final int VALUE = 2;
    static final int HEADERS = 3;

    /** "SCRJ". */
    static final int REJECTS_MAGIC = 0x4A524353;

    /** Gives a value that is not in the block. */
    interface WholeValues {
        byte[] value(int pack, int start, int size);
    }

    private Outgoing() {}

    /** Takes a block of rejected records apart. */
    static void rejects(byte[] block, WholeValues wholes, Consumer<byte[][]> to) {
        ByteBuffer from = Pack.view(block);
        check(from, REJECTS_MAGIC, "rejected records");
        int count = from.getInt();
        for (int i = 0; i < count; i++) {
            int pack = from.getInt();
            int start = from.getInt();
            int size = from.getInt();
            byte[][] record = new byte[1 + from.getInt()][];
            for (int part = KEY; part < record.length; part++) {
                record[part] = part(from, from.getInt());
            }
            if (pack >= 0) {
                record[VALUE] = wholes.value(pack, start, size);
            }
            to.accept(record);
        }
        if (from.hasRemaining()) {
            throw new IllegalStateException("a block of rejected records has " + from.remaining() + " bytes too many");
        }
    }

    /** Reads what blocks from Python begin with. */
    static void check(ByteBuffer from, int magic, String what) {
        int found = from.getInt();
        int layout = from.getInt();
        if (found != magic || layout != Pack.LAYOUT) {
            throw new IllegalStateException(String.format(
                    "a block of %s begins with %08x and layout %d, not with %08x and layout %d:"
                            + " job and jar have to be of one version of surecount",
                    what, found, layout, magic, Pack.LAYOUT));
        }
    }

    private static byte[] part(ByteBuffer from, int length) {
        if (length < 0) {
            return null;
        }
        byte[] part = new byte[length];
        from.get(part);
        return part;
    }
}
