package surecount;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/** A buffer of bytes that grows, and is used again for each pack. Numbers are little-endian. */
final class Bytes {

    private byte[] data = new byte[1024];
    private ByteBuffer view = view();
    private int length;

    private ByteBuffer view() {
        return ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN);
    }

    void clear() {
        length = 0;
    }

    int length() {
        return length;
    }

    /** The array, with room for more bytes from the length on; {@link #setLength} says how many were written. */
    byte[] room(int more) {
        int needed = Math.addExact(length, more);
        if (needed > data.length) {
            data = Arrays.copyOf(data, Math.max(needed, (int) Math.min(2L * data.length, Integer.MAX_VALUE - 8)));
            view = view();
        }
        return data;
    }

    void setLength(int length) {
        this.length = length;
    }

    void put(byte[] bytes) {
        System.arraycopy(bytes, 0, room(bytes.length), length, bytes.length);
        length += bytes.length;
    }

    void putInt(int number) {
        room(Integer.BYTES);
        view.putInt(length, number);
        length += Integer.BYTES;
    }

    void copyTo(ByteBuffer to) {
        copyTo(to, 0, length);
    }

    void copyTo(ByteBuffer to, int first, int length) {
        to.put(data, first, length);
    }
}
