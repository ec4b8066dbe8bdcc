package surecount;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.function.UnaryOperator;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Headers;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.internals.RecordHeaders;

/**
 * Consecutive records of a partition as one record. The layout, which {@code udfs/packs.py} reads:
 *
 * <ul>
 *   <li>Its key is an index: for each record offset and timestamp, 8 bytes each, length of key and of value, number of
 *       headers, and length of the value as it came, 4 bytes each, all little-endian. A length of -1 is null.
 *   <li>Its value is the records' values as they came, one after the other. Where they were skimmed ({@link Skimmer}),
 *       what is left of them stands in a header; else their two lengths are the same.
 *   <li>Headers hold the records' keys one after the other; for each of the records' headers the lengths of its name
 *       and value; and those, name and value in turns. One that would be empty is left out. Names of headers that are
 *       not ours are those of {@link Aside}.
 *   <li>Of one of the records it has the timestamp, the headers, and most often the value, skimmed, as a header, for
 *       the watermark.
 *   <li>Its offset is that of the last record.
 * </ul>
 */
final class Pack {

    static final String LAYOUT = "3";

    static final int ENTRY_BYTES = 32;
    private static final int HEADER_ENTRY_BYTES = 8;

    /** From the year 1971 to the end of 9998. */
    private static final long FIRST_MS = 31_536_000_000L;

    private static final long LAST_MS = 253_370_764_799_999L;

    private static final String SAMPLE = "surecount.pack.sample";
    private static final String SKIMMED = "surecount.pack.skimmed";
    private static final String KEYS = "surecount.pack.keys";
    private static final String HEADER_LENGTHS = "surecount.pack.header-lengths";
    private static final String HEADER_BYTES = "surecount.pack.header-bytes";

    private Pack() {}

    static ConsumerRecord<byte[], byte[]> of(
            List<ConsumerRecord<byte[], byte[]>> records,
            boolean youngest,
            boolean withSample,
            boolean aside,
            UnaryOperator<byte[]> skim) {
        int keyBytes = 0;
        int valueBytes = 0;
        int skimmedBytes = 0;
        int headers = 0;
        int headerBytes = 0;
        int sample = records.size() - 1;
        List<byte[]> skimmed = new ArrayList<>(records.size());
        for (int i = 0; i < records.size(); i++) {
            ConsumerRecord<byte[], byte[]> record = records.get(i);
            skimmed.add(skim.apply(record.value()));
            skimmedBytes += Math.max(length(skimmed.get(i)), 0);
            keyBytes += Math.max(length(record.key()), 0);
            valueBytes += Math.max(length(record.value()), 0);
            for (Header header : record.headers()) {
                headers++;
                headerBytes += utf8(header, aside).length + Math.max(length(header.value()), 0);
            }
            if (youngest && time(record) > time(records.get(sample))) {
                sample = i;
            }
        }
        boolean isSkimmed = skimmedBytes < valueBytes / 2;
        ByteBuffer index = buffer(ENTRY_BYTES * records.size());
        ByteBuffer keys = buffer(keyBytes);
        ByteBuffer values = buffer(valueBytes);
        ByteBuffer left = buffer(isSkimmed ? skimmedBytes : 0);
        ByteBuffer lengths = buffer(HEADER_ENTRY_BYTES * headers);
        ByteBuffer contents = buffer(headerBytes);
        for (int i = 0; i < records.size(); i++) {
            ConsumerRecord<byte[], byte[]> record = records.get(i);
            byte[] value = isSkimmed ? skimmed.get(i) : record.value();
            int before = lengths.position();
            for (Header header : record.headers()) {
                byte[] name = utf8(header, aside);
                lengths.putInt(name.length).putInt(length(header.value()));
                contents.put(name);
                put(contents, header.value());
            }
            int count = (lengths.position() - before) / HEADER_ENTRY_BYTES;
            index.putLong(record.offset()).putLong(record.timestamp());
            index.putInt(length(record.key())).putInt(length(value)).putInt(count).putInt(length(record.value()));
            put(keys, record.key());
            put(values, record.value());
            if (isSkimmed) {
                put(left, value);
            }
        }
        ConsumerRecord<byte[], byte[]> last = records.get(records.size() - 1);
        ConsumerRecord<byte[], byte[]> sampled = records.get(sample);
        Headers all = new RecordHeaders(sampled.headers().toArray());
        add(all, SAMPLE, withSample ? skimmed.get(sample) : null);
        add(all, SKIMMED, left.array());
        add(all, KEYS, keys.array());
        add(all, HEADER_LENGTHS, lengths.array());
        add(all, HEADER_BYTES, contents.array());
        return new ConsumerRecord<>(
                last.topic(),
                last.partition(),
                last.offset(),
                sampled.timestamp(),
                sampled.timestampType(),
                index.capacity(),
                valueBytes,
                index.array(),
                values.array(),
                all,
                Optional.empty());
    }

    /** A record's timestamp, of which one that is no time counts as the oldest: see {@code is_time} of udfs/times.py. */
    private static long time(ConsumerRecord<byte[], byte[]> record) {
        long ms = record.timestamp();
        return ms >= FIRST_MS && ms <= LAST_MS ? ms : Long.MIN_VALUE;
    }

    private static int length(byte[] bytes) {
        return bytes == null ? -1 : bytes.length;
    }

    private static byte[] utf8(Header header, boolean aside) {
        String name = aside ? Aside.name(header.key()) : header.key();
        return name.getBytes(StandardCharsets.UTF_8);
    }

    private static ByteBuffer buffer(int size) {
        return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static void put(ByteBuffer to, byte[] bytes) {
        if (bytes != null) {
            to.put(bytes);
        }
    }

    /** A record may have a header of that name itself, so an empty one is removed, not only left out. */
    private static void add(Headers to, String name, byte[] bytes) {
        to.remove(name);
        if (bytes != null && bytes.length > 0) {
            to.add(name, bytes);
        }
    }
}
