package surecount;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;

/** Reads a pack by the layout, the plain way. */
record ReadPack(int topic, int partition, List<ReadPack.One> records, int wholeBytes) {

    /** Headers are names and values in turns; {@code whole} is the value as it came. */
    record One(long offset, long ms, String key, String value, String whole, int size, List<String> headers) {}

    static ReadPack of(byte[] pack) {
        ByteBuffer head = Pack.view(pack);
        if (head.getInt() != Pack.MAGIC || head.getInt() != Pack.LAYOUT) {
            throw new AssertionError("no pack");
        }
        int topic = head.getInt();
        int partition = head.getInt();
        int count = head.getInt();
        byte[][] parts = new byte[Pack.PARTS][];
        for (int i = 0; i < parts.length; i++) {
            parts[i] = new byte[head.getInt()];
        }
        for (byte[] part : parts) {
            head.get(part);
        }
        if (head.hasRemaining()) {
            throw new AssertionError("bytes behind a pack");
        }
        ByteBuffer index = Pack.view(parts[0]);
        ByteBuffer values = Pack.view(parts[1]);
        ByteBuffer keys = Pack.view(parts[2]);
        ByteBuffer headerLengths = Pack.view(parts[3]);
        ByteBuffer headerBytes = Pack.view(parts[4]);
        ByteBuffer wholes = Pack.view(parts[5]);
        List<One> records = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            long offset = index.getLong();
            long ms = index.getLong();
            int key = index.getInt();
            int value = index.getInt();
            int headers = index.getInt();
            int size = index.getInt();
            List<String> of = new ArrayList<>();
            for (int header = 0; header < headers; header++) {
                of.add(take(headerBytes, headerLengths.getInt()));
                of.add(take(headerBytes, headerLengths.getInt()));
            }
            String left = take(values, value);
            String whole = parts[5].length > 0 ? take(wholes, size) : left;
            records.add(new One(offset, ms, take(keys, key), left, whole, size, of));
        }
        for (ByteBuffer part : List.of(index, values, keys, headerLengths, headerBytes, wholes)) {
            if (part.hasRemaining()) {
                throw new AssertionError("bytes behind a part");
            }
        }
        return new ReadPack(topic, partition, records, parts[5].length);
    }

    private static String take(ByteBuffer from, int length) {
        if (length < 0) {
            return null;
        }
        byte[] bytes = new byte[length];
        from.get(bytes);
        return Testing.text(bytes);
    }
}
