package surecount;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Headers;

/** Puts a producer's headers aside, by {@link Aside}, of records that are copied as they come. */
public final class AsideInterceptor implements ConsumerInterceptor<byte[], byte[]> {

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public ConsumerRecords<byte[], byte[]> onConsume(ConsumerRecords<byte[], byte[]> records) {
        try {
            Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> moved = new HashMap<>();
            for (TopicPartition partition : records.partitions()) {
                List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
                for (ConsumerRecord<byte[], byte[]> record : records.records(partition)) {
                    found.add(moved(record));
                }
                moved.put(partition, found);
            }
            return new ConsumerRecords<>(moved, records.nextOffsets());
        } catch (RuntimeException e) {
            // Kafka only logs an exception, and goes on with the records as they came.
            throw new AssertionError("the headers of these records cannot be put aside", e);
        }
    }

    private static ConsumerRecord<byte[], byte[]> moved(ConsumerRecord<byte[], byte[]> record) {
        Headers headers = Aside.headers(record.headers());
        if (headers == record.headers()) {
            return record;
        }
        return new ConsumerRecord<>(
                record.topic(),
                record.partition(),
                record.offset(),
                record.timestamp(),
                record.timestampType(),
                record.serializedKeySize(),
                record.serializedValueSize(),
                record.key(),
                record.value(),
                headers,
                record.leaderEpoch());
    }

    @Override
    public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets) {}

    @Override
    public void close() {}
}
