package surecount;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static surecount.Testing.bytes;
import static surecount.Testing.text;
import static surecount.Testing.utf8;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.apache.flink.connector.kafka.lineage.KafkaDatasetFacet;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.record.AbstractRecords;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.record.CompressionType;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.record.RecordBatch;
import org.junit.jupiter.api.Test;

class WrittenTest {

    private static ProducerRecord<byte[], byte[]> written(int most, byte[]... outgoing) {
        return new Written("rejects", most).serialize(outgoing, null, 99L);
    }

    private static List<String> headers(ProducerRecord<byte[], byte[]> record) {
        List<String> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            headers.add(header.key());
            headers.add(text(header.value()));
        }
        return headers;
    }

    private static byte[] zeros(int length) {
        return new byte[length];
    }

    @Test
    void aRecordIsWrittenAsItIs() {
        byte[] value = zeros(100_000);
        var record = written(0, bytes(77L), utf8("k"), value, utf8("a"), utf8("1"), utf8("ü"), null, utf8("a"), zeros(0));
        assertEquals("rejects", record.topic());
        assertEquals(77L, record.timestamp());
        assertEquals("k", text(record.key()));
        assertArrayEquals(value, record.value());
        assertEquals(Arrays.asList("a", "1", "ü", null, "a", ""), headers(record));

        var empty = written(1000, null, null, null);
        assertNull(empty.timestamp());
        assertNull(empty.key());
        assertNull(empty.value());
        assertEquals(0L, written(0, bytes(-5L), null, null).timestamp());
    }

    @Test
    void ofAValueThatIsTooLargeADigestIsWritten() {
        byte[] value = zeros(5000);
        Arrays.fill(value, (byte) 'a');
        assertArrayEquals(value, written(6000, null, utf8("k"), value, utf8("h"), utf8("1")).value());
        var record = written(5000, bytes(1L), utf8("k"), value, utf8("h"), utf8("1"));
        assertNull(record.value());
        assertEquals("k", text(record.key()));
        assertEquals(
                List.of(
                        "h", "1",
                        "surecount.size", "5000",
                        "surecount.sha256", "c526c6222044dab5674de9c4ac7f4566ebb5e4d8bf9d8ea34c9cc8a7cc3c869c",
                        "surecount.head", "a".repeat(1000)),
                headers(record));
    }

    @Test
    void keysAndHeadersThatAreTooLargeAreLeftOut() {
        byte[][] outgoing = {null, zeros(4000), zeros(10), utf8("small"), utf8("1"), utf8("large"), zeros(9000)};
        var record = written(8000, outgoing);
        assertEquals(4000, record.key().length);
        List<String> headers = headers(record);
        assertEquals(List.of("small", "1", "surecount.size", "10"), headers.subList(0, 4));
        assertEquals(List.of("surecount.omitted", "header large"), headers.subList(8, 10));
        assertEquals(10, headers.size());

        var smaller = written(3000, outgoing);
        assertNull(smaller.key());
        assertEquals(List.of("surecount.omitted", "header large, key"), headers(smaller).subList(8, 10));

        var withoutValue = written(3000, null, zeros(4000), null, utf8("small"), utf8("1"));
        assertEquals(List.of("small", "1", "surecount.omitted", "key"), headers(withoutValue));
    }

    @Test
    void noMoreNamesAreWrittenThanThereIsRoomFor() {
        List<byte[]> parts = new ArrayList<>(Arrays.asList(null, null, null));
        for (int i = 0; i < 2000; i++) {
            parts.add(utf8("name" + i));
            parts.add(zeros(10 + i / 1000));
        }
        parts.add(utf8("n".repeat(1000)));
        parts.add(null);
        assertEquals(List.of("surecount.omitted", "2001 more"), headers(written(1130, parts.toArray(new byte[0][]))));
        parts.set(parts.size() - 2, utf8("n".repeat(300)));
        assertEquals(
                List.of("surecount.omitted", "header " + "n".repeat(300) + ", 2000 more"),
                headers(written(1130, parts.toArray(new byte[0][]))));
    }

    @Test
    void anyRecordFits() {
        long seed = new Random().nextLong();
        Random random = new Random(seed);
        int most = 4000;
        Written written = new Written("rejects", most);
        for (int i = 0; i < 500; i++) {
            int headers = random.nextInt(4) == 0 ? random.nextInt(1000) : random.nextInt(4);
            byte[][] outgoing = new byte[3 + 2 * headers][];
            outgoing[1] = any(random);
            outgoing[2] = any(random);
            for (int part = 3; part < outgoing.length; part += 2) {
                outgoing[part] = random.nextInt(50) == 0 ? utf8("€".repeat(random.nextInt(2000))) : utf8("n" + part);
                outgoing[part + 1] = any(random);
            }
            var record = written.serialize(outgoing, null, null);
            int bytes = AbstractRecords.estimateSizeInBytesUpperBound(
                    RecordBatch.CURRENT_MAGIC_VALUE,
                    CompressionType.NONE,
                    record.key(),
                    record.value(),
                    record.headers().toArray());
            assertTrue(bytes <= most, bytes + " bytes with seed " + seed);
        }
    }

    private static byte[] any(Random random) {
        int most = new int[] {1, 10, 1000, 10_000}[random.nextInt(4)];
        return random.nextInt(5) == 0 ? null : zeros(random.nextInt(most));
    }

    @Test
    void itsTopicIsKnown() {
        KafkaDatasetFacet facet = new Written("results", 0).getKafkaDatasetFacet().orElseThrow();
        assertEquals(List.of("results"), facet.getTopicIdentifier().getTopics());
    }
}
