package surecount;

import java.nio.ByteBuffer;
import java.util.Map;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.SerializationException;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Headers;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.serialization.Deserializer;

/**
 * Ends a consumer's poll at a number of decompressed bytes. Kafka limits a poll by records, and a fetch by compressed
 * bytes, so a fetch of some kilobytes may hold gigabytes.
 *
 * <p>Set it as both deserializers and as an interceptor. Once the poll is full, the deserializers throw for the next
 * record. Kafka's consumer then returns the records before it, and deserializes the same record again in the next poll.
 * The interceptor resets the count. Kafka logs each exception as an error; {@code flink-conf} turns that logger off.
 *
 * <p>A consumer has one thread that polls, deserializes and intercepts.
 */
public final class PollLimit implements Deserializer<byte[]>, ConsumerInterceptor<byte[], byte[]> {

    /** Above that, a poll ends. So it brings up to one record more. */
    static final long MOST_BYTES = 8 << 20;

    /** What this thread has read since its last poll ended. */
    private static final ThreadLocal<long[]> BYTES = ThreadLocal.withInitial(() -> new long[1]);

    private static final class PollFullException extends SerializationException {
        private static final long serialVersionUID = 1L;

        PollFullException() {
            super("The poll has " + MOST_BYTES + " bytes. The next one goes on.");
        }
    }

    private boolean isKey;

    @Override
    public void configure(Map<String, ?> configs, boolean isKey) {
        this.isKey = isKey;
    }

    @Override
    public byte[] deserialize(String topic, byte[] data) {
        return data;
    }

    @Override
    public byte[] deserialize(String topic, Headers headers, ByteBuffer data) {
        long[] bytes = BYTES.get();
        if (bytes[0] > MOST_BYTES) {
            throw new PollFullException();
        }
        bytes[0] += data.remaining();
        if (!isKey) {
            for (Header header : headers) {
                bytes[0] += header.key().length() + (header.value() == null ? 0 : header.value().length);
            }
        }
        return Deserializer.super.deserialize(topic, headers, data);
    }

    @Override
    public ConsumerRecords<byte[], byte[]> onConsume(ConsumerRecords<byte[], byte[]> records) {
        BYTES.get()[0] = 0;
        return records;
    }

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets) {}

    @Override
    public void close() {}
}
