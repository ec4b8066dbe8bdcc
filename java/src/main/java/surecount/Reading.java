package surecount;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;

/**
 * What a source's reader, in the task's thread, and the interceptor of its consumer, in another one, have to know of
 * each other. Kafka makes interceptors by the names of their classes, so they find it by client id.
 *
 * <p>It limits the bytes of packs that wait for the task: while the task waits for Python, the consumer reads ahead.
 */
final class Reading {

    /** Of a partition that has no end. */
    static final long NO_STOP = Long.MAX_VALUE;

    /** The bytes of packs that wait at most, unless one poll has more. Some batches' worth. */
    static final long MOST_BYTES = 32 << 20;

    private static final Map<String, Reading> BY_CLIENT = new ConcurrentHashMap<>();

    private final Map<TopicPartition, Long> stops = new ConcurrentHashMap<>();
    private long bytes;
    private boolean isClosed;

    /** Begins one, in the place of that of a consumer before it that had its name. */
    static Reading begin(String clientId) {
        Reading reading = new Reading();
        BY_CLIENT.put(clientId, reading);
        return reading;
    }

    /** That of a consumer. IllegalStateException where none was begun: nothing would limit what waits. */
    static Reading of(String clientId) {
        Reading found = BY_CLIENT.get(clientId);
        if (found == null) {
            throw new IllegalStateException("no source reads by the client id " + clientId
                    + ": the connector gives its consumers other ones than this jar expects");
        }
        return found;
    }

    /** Where a bounded source stops: no pack may have that offset inside, as Flink's source would leave out all of it. */
    long stop(TopicPartition partition) {
        return stops.getOrDefault(partition, NO_STOP);
    }

    void stopAt(TopicPartition partition, long offset) {
        stops.put(partition, offset);
    }

    /** Waits until packs of so many bytes may wait, or nothing reads any more. */
    synchronized void await(long more) {
        try {
            while (bytes > 0 && bytes + more > MOST_BYTES && !isClosed) {
                wait();
            }
        } catch (InterruptedException e) {
            // Whoever closes the consumer asks for it. Its records are dropped.
            Thread.currentThread().interrupt();
        }
    }

    /** Counts a pack until {@link #taken}. */
    void add(ConsumerRecord<byte[], byte[]> pack) {
        int length = pack.value().length;
        synchronized (this) {
            bytes += length;
        }
        pack.headers().add(new Waiting(this, length));
    }

    /** Says that the task has a pack. */
    static void taken(ConsumerRecord<byte[], byte[]> pack) {
        for (Header header : pack.headers()) {
            if (header instanceof Waiting waiting) {
                waiting.reading.remove(waiting.length);
            }
        }
    }

    private synchronized void remove(int length) {
        bytes -= length;
        notifyAll();
    }

    synchronized long bytes() {
        return bytes;
    }

    /** A restarted task may have its own by then. */
    void close() {
        BY_CLIENT.values().removeIf(reading -> reading == this);
        synchronized (this) {
            isClosed = true;
            notifyAll();
        }
    }

    /** Goes with a pack from the interceptor to the task. */
    private record Waiting(Reading reading, int length) implements Header {

        @Override
        public String key() {
            return "surecount.waiting";
        }

        @Override
        public byte[] value() {
            return null;
        }
    }
}
