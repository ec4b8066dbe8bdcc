package surecount;

import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.types.Row;
import org.apache.flink.util.Collector;

/**
 * Takes blocks of results and corrections apart. {@code udfs/results.py} makes them: rows of a kind and five texts.
 *
 * <p>The texts are head, tail of keys, middle, tail and lines. Each line has two fields, with a tab between them. A
 * record's key is head, first field and tail of keys; its value is head, first field, middle, second field and tail.
 * Corrections go to the side.
 */
public final class Results extends ProcessFunction<Row, byte[][]> {

    private static final long serialVersionUID = 1L;

    static final int RESULT = 0;
    static final int CORRECTION = 1;

    @Override
    public void processElement(Row block, Context context, Collector<byte[][]> out) {
        int kind = (Integer) block.getField(0);
        byte[] head = (byte[]) block.getField(1);
        byte[] keyTail = (byte[]) block.getField(2);
        byte[] middle = (byte[]) block.getField(3);
        byte[] tail = (byte[]) block.getField(4);
        byte[] lines = (byte[]) block.getField(5);
        int first = 0;
        while (first < lines.length) {
            int tab = find(lines, '\t', first);
            int end = find(lines, '\n', tab);
            int key = tab - first;
            int rest = end - tab - 1;
            byte[] k = new byte[head.length + key + keyTail.length];
            int at = put(k, 0, head, 0, head.length);
            at = put(k, at, lines, first, key);
            put(k, at, keyTail, 0, keyTail.length);
            byte[] v = new byte[head.length + key + middle.length + rest + tail.length];
            at = put(v, 0, k, 0, head.length + key);
            at = put(v, at, middle, 0, middle.length);
            at = put(v, at, lines, tab + 1, rest);
            put(v, at, tail, 0, tail.length);
            byte[][] record = {null, k, v};
            if (kind == RESULT) {
                out.collect(record);
            } else if (kind == CORRECTION) {
                context.output(Outgoing.CORRECTIONS, record);
            } else {
                throw new IllegalStateException("no such kind of block: " + kind);
            }
            first = end + 1;
        }
    }

    /** Where a byte stands; behind all bytes where it does not. */
    private static int find(byte[] bytes, char wanted, int from) {
        int at = from;
        while (at < bytes.length && bytes[at] != wanted) {
            at++;
        }
        return at;
    }

    private static int put(byte[] to, int at, byte[] from, int first, int length) {
        System.arraycopy(from, first, to, at, length);
        return at + length;
    }
}
