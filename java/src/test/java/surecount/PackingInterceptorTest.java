package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static surecount.Testing.text;
import static surecount.Testing.utf8;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.config.ConfigException;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.junit.jupiter.api.Test;

class PackingInterceptorTest {

    private static PackingInterceptor interceptor(String... settings) {
        Map<String, String> configs = new HashMap<>();
        Reading reading = Reading.begin("packing");
        configs.put(ConsumerConfig.CLIENT_ID_CONFIG, "packing");
        configs.put(PackingInterceptor.LAYOUT_CONFIG, "4");
        configs.put(PackingInterceptor.RECORDS_CONFIG, "20");
        for (int i = 0; i < settings.length; i += 2) {
            configs.put(settings[i], settings[i + 1]);
        }
        PackingInterceptor interceptor = new PackingInterceptor();
        interceptor.configure(configs);
        // Nobody takes these packs, so nothing may wait for that.
        reading.close();
        return interceptor;
    }

    /** The packs of a poll that brought records of one partition. */
    private static List<ReadPack> packs(
            PackingInterceptor interceptor, List<ConsumerRecord<byte[], byte[]>> records) {
        TopicPartition partition = new TopicPartition(records.get(0).topic(), records.get(0).partition());
        long next = records.get(records.size() - 1).offset() + 1;
        List<ReadPack> packs = new ArrayList<>();
        for (var pack : interceptor.onConsume(polled(partition, records, next))) {
            ReadPack read = ReadPack.of(pack.value());
            ReadPack.One last = read.records().get(read.records().size() - 1);
            assertEquals(last.offset(), pack.offset());
            assertEquals(partition, new TopicPartition(pack.topic(), pack.partition()));
            assertEquals(partition.partition(), read.partition());
            packs.add(read);
        }
        return packs;
    }

    private static ConsumerRecords<byte[], byte[]> polled(
            TopicPartition partition, List<ConsumerRecord<byte[], byte[]>> records, long next) {
        return new ConsumerRecords<>(
                records.isEmpty() ? Map.of() : Map.of(partition, records),
                Map.of(partition, new OffsetAndMetadata(next)));
    }

    @Test
    void offsetsAreBehindTheMarkersOfTransactions() {
        TopicPartition partition = new TopicPartition("events", 3);
        ConsumerRecord<byte[], byte[]> record =
                new ConsumerRecord<>("events", 3, 7, new byte[] {1}, new byte[] {2});
        var withRecord = interceptor().onConsume(polled(partition, List.of(record), 10)).records(partition);
        assertEquals(List.of(9L), withRecord.stream().map(ConsumerRecord::offset).toList());
        assertEquals(7, ReadPack.of(withRecord.get(0).value()).records().get(0).offset());
        var markersOnly = interceptor().onConsume(polled(partition, List.of(), 12)).records(partition);
        assertEquals(List.of(11L), markersOnly.stream().map(ConsumerRecord::offset).toList());
        assertEquals(List.of(), ReadPack.of(markersOnly.get(0).value()).records());
        assertEquals(3, ReadPack.of(markersOnly.get(0).value()).partition());
    }

    private static List<ReadPack.One> expected(List<ConsumerRecord<byte[], byte[]>> records) {
        List<ReadPack.One> expected = new ArrayList<>();
        for (var record : records) {
            List<String> headers = new ArrayList<>();
            for (Header header : record.headers()) {
                headers.add(header.key());
                headers.add(text(header.value()));
            }
            String value = text(record.value());
            expected.add(new ReadPack.One(record.offset(), record.timestamp(), text(record.key()), value, value,
                    record.serializedValueSize(), headers));
        }
        return expected;
    }

    private static List<ReadPack.One> records(List<ReadPack> packs) {
        return packs.stream().flatMap(pack -> pack.records().stream()).toList();
    }

    private static byte[] any(Random random, int most) {
        if (random.nextInt(4) == 0) {
            return null;
        }
        StringBuilder text = new StringBuilder();
        for (int length = random.nextInt(most); length > 0; length--) {
            text.append("aü€\0".charAt(random.nextInt(4)));
        }
        return utf8(text.toString());
    }

    private static List<ConsumerRecord<byte[], byte[]>> any(Random random) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long offset = random.nextInt(1000);
        int count = 1 + random.nextInt(100);
        int most = random.nextInt(5) == 0 ? 20_000 : 10;
        for (int i = 0; i < count; i++) {
            List<Object> headers = new ArrayList<>();
            for (int header = random.nextInt(3); header > 0; header--) {
                headers.add(List.of("a", "ü", "", "surecount.x").get(random.nextInt(4)));
                headers.add(any(random, 10));
            }
            offset += random.nextInt(5) == 0 ? 50 : 1;
            records.add(Testing.record(
                    "events", 3, offset, random.nextLong(), any(random, 5), any(random, most), headers.toArray()));
        }
        return records;
    }

    @Test
    void everyRecordIsInAPackAsItWas() {
        long seed = new Random().nextLong();
        Random random = new Random(seed);
        PackingInterceptor interceptor = interceptor();
        for (int poll = 0; poll < 200; poll++) {
            List<ConsumerRecord<byte[], byte[]>> polled = any(random);
            List<ReadPack> packs = packs(interceptor, polled);
            assertEquals(expected(polled), records(packs), "seed " + seed);
            assertTrue(packs.stream().allMatch(pack -> pack.records().size() <= 20), "seed " + seed);
        }
    }

    @Test
    void aPackHoldsNoMoreThanItMayUnlessARecordIsLarger() {
        int half = (32 << 10) / 2 - Pack.ENTRY_BYTES;
        for (int size : new int[] {half, half + 1, 100_000}) {
            List<ConsumerRecord<byte[], byte[]>> polled = new ArrayList<>();
            for (int i = 0; i < 6; i++) {
                polled.add(Testing.record(i, new byte[size]));
            }
            List<ReadPack> packs = packs(interceptor(), polled);
            assertEquals(size == half ? 3 : 6, packs.size());
            assertEquals(6, records(packs).size());
        }
    }

    private static byte[] json(int key, int pad) {
        return utf8("{\"pad\":\"" + "x".repeat(pad) + "\",\"key\":" + key + "}");
    }

    @Test
    void valuesAreProjectedWhereThatSavesHalfOfThem() {
        PackingInterceptor interceptor = interceptor(PackingInterceptor.FIELDS_CONFIG, "key\"ts");
        byte[] broken = utf8("{\"pad\":\"" + "x".repeat(300) + "}");
        List<ConsumerRecord<byte[], byte[]>> polled = List.of(
                Testing.record(1, json(1, 1000)), Testing.record(2, null), Testing.record(3, broken),
                Testing.record(4, json(4, 1000)), Testing.record(5, json(5, 1)));
        List<ReadPack> packs = packs(interceptor, polled);
        assertEquals(1, packs.size());
        List<ReadPack.One> found = packs.get(0).records();
        assertEquals(
                Arrays.asList("{\"key\":1}", null, text(broken), "{\"key\":4}", text(json(5, 1))),
                found.stream().map(ReadPack.One::value).toList());
        assertEquals(
                polled.stream().map(record -> text(record.value())).toList(),
                found.stream().map(ReadPack.One::whole).toList());
        assertEquals(
                polled.stream().map(ConsumerRecord::serializedValueSize).toList(),
                found.stream().map(ReadPack.One::size).toList());

        List<ConsumerRecord<byte[], byte[]>> other = List.of(
                Testing.record(1, json(1, 300)), Testing.record(2, utf8("y".repeat(2000))));
        List<ReadPack> whole = packs(interceptor, other);
        assertEquals(0, whole.get(0).wholeBytes());
        assertEquals(expected(other), records(whole));
    }

    @Test
    void ofAValueThatIsTooLargeOnlyTheSizeCrosses() {
        for (String fields : new String[] {null, "key"}) {
            PackingInterceptor interceptor = fields == null
                    ? interceptor(PackingInterceptor.MOST_CONFIG, "2000")
                    : interceptor(PackingInterceptor.MOST_CONFIG, "2000", PackingInterceptor.FIELDS_CONFIG, fields);
            List<ConsumerRecord<byte[], byte[]>> polled = List.of(
                    Testing.record(1, utf8("a".repeat(2000))), Testing.record(2, json(2, 3000)), Testing.record(3, null));
            List<ReadPack> packs = packs(interceptor, polled);
            List<ReadPack.One> found = records(packs);
            assertEquals(Arrays.asList("a".repeat(2000), "", null), found.stream().map(ReadPack.One::value).toList());
            assertEquals(
                    polled.stream().map(record -> text(record.value())).toList(),
                    found.stream().map(ReadPack.One::whole).toList());
            assertEquals(json(2, 3000).length, found.get(1).size());
        }
    }

    @Test
    void headersNamedAsOursArePutAsideInTopicsOfOthers() {
        Object[] headers = {"surecount.topic", utf8("1"), "producer.x", null, "producer.surecount.y", utf8("2")};
        List<ConsumerRecord<byte[], byte[]>> polled = List.of(Testing.record("events", 0, 1, 0, null, null, headers));
        PackingInterceptor ours = interceptor(PackingInterceptor.FOREIGN_CONFIG, "other");
        assertEquals(expected(polled), records(packs(ours, polled)));
        PackingInterceptor foreign = interceptor(PackingInterceptor.FOREIGN_CONFIG, "other;events");
        assertEquals(
                Arrays.asList(
                        "producer.surecount.topic", "1", "producer.x", null, "producer.producer.surecount.y", "2"),
                records(packs(foreign, polled)).get(0).headers());
    }

    @Test
    void noPackReachesBeyondTheEndWhereABoundedSourceMayStop() {
        List<ConsumerRecord<byte[], byte[]>> polled = new ArrayList<>();
        for (int offset = 0; offset < 50; offset++) {
            polled.add(Testing.record(offset, utf8("a")));
        }
        List<Integer> lengths = new ArrayList<>(List.of(20, 10));
        for (int offset = 30; offset < 50; offset++) {
            lengths.add(1);
        }
        List<Integer> found = interceptor().packs(polled, 30, false).stream()
                .map(pack -> ReadPack.of(pack.value()).records().size())
                .toList();
        assertEquals(lengths, found);
    }

    @Test
    void aJobOfAnotherLayoutIsRefused() {
        for (String layout : new String[] {"3", "5", null}) {
            String message = assertThrows(
                            ConfigException.class, () -> interceptor(PackingInterceptor.LAYOUT_CONFIG, layout))
                    .getMessage();
            assertTrue(message.contains("job and jar have to be of one version"), message);
        }
    }

    @Test
    void whatFlinkDropsBehindTheStopIsNotWaitedFor() {
        Reading reading = Reading.begin("packing-0");
        TopicPartition partition = new TopicPartition("events", 0);
        reading.stopAt(partition, 5);
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int offset = 0; offset < 9; offset++) {
            records.add(new ConsumerRecord<>("events", 0, offset, null, new byte[100]));
        }
        var packs = interceptor(ConsumerConfig.CLIENT_ID_CONFIG, "packing-0")
                .onConsume(polled(partition, records, 9))
                .records(partition);
        assertEquals(5, packs.size());
        assertTrue(reading.bytes() > 500);
        Reading.taken(packs.get(0));
        assertEquals(0, reading.bytes());
        reading.close();
    }
}
