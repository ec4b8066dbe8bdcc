package surecount;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.function.Consumer;
import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.types.Row;
import org.apache.flink.util.Collector;

/**
 * Takes apart what deduplication sends on: rows of a kind and a block. Clean records go on, duplicates and rejected
 * records to the side.
 *
 * <p>{@code udfs/copies.py} makes blocks of clean records and of duplicates. Numbers are little-endian.
 *
 * <pre>
 *  0  int32        magic
 *  4  int32        layout
 *  8  int32        number of records n
 * 12  int32        number of headers that all share, s
 * 16  int32        number of columns of numbers, m
 * 20  int32        number of all records' own headers, h
 * 24  s 2 int32    lengths of name and value of each shared header
 *     m int32      lengths of the columns' names
 *     n int64      timestamps
 *     m n int64    columns of numbers
 *     n int32      lengths of keys
 *     n int32      lengths of values
 *     n int32      numbers of own headers
 *     h int32      lengths of own headers' names
 *     h int32      lengths of own headers' values
 *                  names and values of shared headers in turns, names of columns, keys, values, names of own headers,
 *                  values of own headers
 * </pre>
 *
 * <p>A length of -1 is null. A record's headers are its own, then the shared ones, then one for each column, with its
 * number as decimal text.
 */
public final class Copies extends ProcessFunction<Row, byte[][]> {

    private static final long serialVersionUID = 1L;

    static final int CLEAN = 0;
    static final int DUPLICATE = 1;
    static final int REJECTS = 2;

    /** "SCCO". */
    static final int MAGIC = 0x4F434353;

    static final int HEAD_BYTES = 24;

    @Override
    public void processElement(Row row, Context context, Collector<byte[][]> out) {
        int kind = (Integer) row.getField(0);
        byte[] block = (byte[]) row.getField(1);
        switch (kind) {
            case CLEAN:
                read(block, out::collect);
                break;
            case DUPLICATE:
                read(block, record -> context.output(Outgoing.DUPLICATES, record));
                break;
            case REJECTS:
                Outgoing.rejects(block, Copies::noValue, record -> context.output(Outgoing.REJECTS, record));
                break;
            default:
                throw new IllegalStateException("no such kind of block: " + kind);
        }
    }

    private static byte[] noValue(int pack, int start, int size) {
        throw new IllegalStateException("deduplication has no packs, but a rejected record names pack " + pack);
    }

    private static void read(byte[] block, Consumer<byte[][]> to) {
        ByteBuffer view = Pack.view(block);
        Outgoing.check(view, MAGIC, "copies");
        int count = view.getInt();
        int shared = view.getInt();
        int columns = view.getInt();
        int owns = view.getInt();

        int columnNamesAt = HEAD_BYTES + 2 * Integer.BYTES * shared;
        int timestampsAt = columnNamesAt + Integer.BYTES * columns;
        int numbersAt = timestampsAt + Long.BYTES * count;
        int keysAt = numbersAt + Long.BYTES * columns * count;
        int valuesAt = keysAt + Integer.BYTES * count;
        int ownCountsAt = valuesAt + Integer.BYTES * count;
        int ownNamesAt = ownCountsAt + Integer.BYTES * count;
        int ownValuesAt = ownNamesAt + Integer.BYTES * owns;
        int sharedBytesAt = ownValuesAt + Integer.BYTES * owns;

        Lengths sharedParts = new Lengths(view, HEAD_BYTES, sharedBytesAt);
        byte[][] sharedHeaders = sharedParts.next(2 * shared);
        Lengths names = new Lengths(view, columnNamesAt, sharedParts.end());
        byte[][] columnNames = names.next(columns);
        Lengths keys = new Lengths(view, keysAt, names.end());
        Lengths values = new Lengths(view, valuesAt, keys.end(count));
        Lengths ownNames = new Lengths(view, ownNamesAt, values.end(count));
        Lengths ownValues = new Lengths(view, ownValuesAt, ownNames.end(owns));

        for (int i = 0; i < count; i++) {
            int own = view.getInt(ownCountsAt + Integer.BYTES * i);
            byte[][] record = new byte[Outgoing.HEADERS + 2 * (own + shared + columns)][];
            int timestampAt = timestampsAt + Long.BYTES * i;
            record[Outgoing.TIMESTAMP] = Arrays.copyOfRange(block, timestampAt, timestampAt + Long.BYTES);
            record[Outgoing.KEY] = keys.next();
            record[Outgoing.VALUE] = values.next();
            int part = Outgoing.HEADERS;
            for (int header = 0; header < own; header++) {
                record[part++] = ownNames.next();
                record[part++] = ownValues.next();
            }
            System.arraycopy(sharedHeaders, 0, record, part, sharedHeaders.length);
            part += sharedHeaders.length;
            for (int column = 0; column < columns; column++) {
                record[part++] = columnNames[column];
                record[part++] = decimal(view.getLong(numbersAt + Long.BYTES * (column * count + i)));
            }
            to.accept(record);
        }
        if (ownValues.end() != block.length) {
            throw new IllegalStateException("a block of copies has " + block.length + " bytes, not " + ownValues.end());
        }
    }

    /** Arrays one after the other, from their lengths in turns. */
    private static final class Lengths {
        private final ByteBuffer view;
        private int lengthAt;
        private int at;

        Lengths(ByteBuffer view, int lengthsAt, int at) {
            this.view = view;
            this.lengthAt = lengthsAt;
            this.at = at;
        }

        byte[] next() {
            int length = view.getInt(lengthAt);
            lengthAt += Integer.BYTES;
            if (length < 0) {
                return null;
            }
            int first = at;
            at += length;
            return Arrays.copyOfRange(view.array(), first, at);
        }

        byte[][] next(int count) {
            byte[][] found = new byte[count][];
            for (int i = 0; i < count; i++) {
                found[i] = next();
            }
            return found;
        }

        /** Where the next array begins. */
        int end() {
            return at;
        }

        /** Where the array begins that comes after so many more. */
        int end(int count) {
            int end = at;
            for (int i = 0; i < count; i++) {
                end += Math.max(0, view.getInt(lengthAt + Integer.BYTES * i));
            }
            return end;
        }
    }

    /** A number as text, without a String for each. */
    static byte[] decimal(long number) {
        // The least number has no counterpart, and is its own remainder's sign.
        int digits = number < 0 ? 2 : 1;
        for (long rest = number / 10; rest != 0; rest /= 10) {
            digits++;
        }
        byte[] text = new byte[digits];
        if (number < 0) {
            text[0] = '-';
        }
        long rest = number;
        for (int at = digits - 1; at >= (number < 0 ? 1 : 0); at--) {
            text[at] = (byte) ('0' + Math.abs(rest % 10));
            rest /= 10;
        }
        return text;
    }
}
