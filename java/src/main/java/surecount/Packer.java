package surecount;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.record.TimestampType;

/** Makes a {@link Pack} of consecutive records of a partition. Its buffers are used again for the next one. */
final class Packer {

    private final Projection projection;
    private final int mostValueBytes;

    /** What is left of the values that were projected. */
    private final Bytes projected = new Bytes();

    private final Bytes headerLengths = new Bytes();
    private final Bytes headerBytes = new Bytes();

    /** For each record, the length of its value in the pack. */
    private int[] lengths = {};

    /** For each record, the number of its headers. */
    private int[] headers = {};

    /** Without a projection (null) values stay as they came, but those of more bytes than {@code mostValueBytes}. */
    Packer(Projection projection, int mostValueBytes) {
        this.projection = projection;
        this.mostValueBytes = mostValueBytes;
    }

    /** Records as one, whose offset is that of the last. {@code aside}: names of headers are those of {@link Aside}. */
    ConsumerRecord<byte[], byte[]> pack(List<ConsumerRecord<byte[], byte[]>> records, boolean aside) {
        ConsumerRecord<byte[], byte[]> last = records.get(records.size() - 1);
        TopicPartition partition = new TopicPartition(last.topic(), last.partition());
        return record(partition, last.offset(), bytes(records, aside));
    }

    /** A pack as a record of this offset. */
    static ConsumerRecord<byte[], byte[]> record(TopicPartition partition, long offset, byte[] pack) {
        return new ConsumerRecord<>(
                partition.topic(),
                partition.partition(),
                offset,
                ConsumerRecord.NO_TIMESTAMP,
                TimestampType.NO_TIMESTAMP_TYPE,
                -1,
                pack.length,
                null,
                pack,
                new RecordHeaders(),
                Optional.empty());
    }

    private byte[] bytes(List<ConsumerRecord<byte[], byte[]>> records, boolean aside) {
        int count = records.size();
        clear(count);
        long keyBytes = 0;
        long wholeBytes = 0;
        long leftBytes = 0;
        boolean isTooLarge = false;
        for (int i = 0; i < count; i++) {
            ConsumerRecord<byte[], byte[]> record = records.get(i);
            byte[] value = record.value();
            isTooLarge |= length(value) > mostValueBytes;
            lengths[i] = left(value);
            headers[i] = putHeaders(record.headers().toArray(), aside);
            keyBytes += Math.max(length(record.key()), 0);
            wholeBytes += Math.max(length(value), 0);
            leftBytes += Math.max(lengths[i], 0);
        }
        boolean isProjected = isTooLarge || leftBytes < wholeBytes / 2;
        long valueBytes = isProjected ? leftBytes : wholeBytes;
        long total = Pack.HEAD_BYTES
                + (long) Pack.ENTRY_BYTES * count
                + valueBytes
                + keyBytes
                + headerLengths.length()
                + headerBytes.length()
                + (isProjected ? wholeBytes : 0);
        ByteBuffer to = Pack.buffer(Math.toIntExact(total));
        to.putInt(Pack.MAGIC).putInt(Pack.LAYOUT).putInt(0).putInt(records.get(0).partition()).putInt(count);
        to.putInt(Pack.ENTRY_BYTES * count).putInt((int) valueBytes).putInt((int) keyBytes);
        to.putInt(headerLengths.length()).putInt(headerBytes.length()).putInt(isProjected ? (int) wholeBytes : 0);
        putIndex(to, records, isProjected);
        putValues(to, records, isProjected);
        for (ConsumerRecord<byte[], byte[]> record : records) {
            put(to, record.key());
        }
        headerLengths.copyTo(to);
        headerBytes.copyTo(to);
        if (isProjected) {
            putValues(to, records, false);
        }
        return to.array();
    }

    private void clear(int count) {
        projected.clear();
        headerLengths.clear();
        headerBytes.clear();
        if (lengths.length < count) {
            lengths = new int[2 * count];
            headers = new int[2 * count];
        }
        Arrays.fill(lengths, 0, count, 0);
    }

    /** The length of what is left of a value, which is then in {@code projected} where it is less than the value. */
    private int left(byte[] value) {
        if (value == null) {
            return -1;
        }
        if (value.length > mostValueBytes) {
            return 0;
        }
        int before = projected.length();
        if (projection == null || !projection.project(value, projected)) {
            return value.length;
        }
        int left = projected.length() - before;
        if (left == value.length) {
            projected.setLength(before);
        }
        return left;
    }

    private int putHeaders(Header[] all, boolean aside) {
        for (Header header : all) {
            String name = aside ? Aside.name(header.key()) : header.key();
            byte[] utf8 = name.getBytes(StandardCharsets.UTF_8);
            byte[] value = header.value();
            headerLengths.putInt(utf8.length);
            headerLengths.putInt(length(value));
            headerBytes.put(utf8);
            if (value != null) {
                headerBytes.put(value);
            }
        }
        return all.length;
    }

    private void putIndex(ByteBuffer to, List<ConsumerRecord<byte[], byte[]>> records, boolean isProjected) {
        for (int i = 0; i < records.size(); i++) {
            ConsumerRecord<byte[], byte[]> record = records.get(i);
            int size = length(record.value());
            to.putLong(record.offset()).putLong(record.timestamp()).putInt(length(record.key()));
            to.putInt(isProjected ? lengths[i] : size).putInt(headers[i]).putInt(size);
        }
    }

    private void putValues(ByteBuffer to, List<ConsumerRecord<byte[], byte[]>> records, boolean isProjected) {
        int at = 0;
        for (int i = 0; i < records.size(); i++) {
            byte[] value = records.get(i).value();
            if (!isProjected || lengths[i] == length(value)) {
                put(to, value);
            } else {
                projected.copyTo(to, at, lengths[i]);
                at += lengths[i];
            }
        }
    }

    private static int length(byte[] bytes) {
        return bytes == null ? -1 : bytes.length;
    }

    private static void put(ByteBuffer to, byte[] bytes) {
        if (bytes != null) {
            to.put(bytes);
        }
    }
}
