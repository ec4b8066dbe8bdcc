package surecount;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;

/**
 * Where the consumers of bounded sources stop, by client id: no pack may have that offset inside, as Flink's source
 * would leave out all of it. The source's reader knows it, and the consumer's interceptor asks.
 */
final class Stops {

    /** Of a partition that has no end. */
    static final long NONE = Long.MAX_VALUE;

    private static final Map<String, Map<TopicPartition, Long>> BY_CLIENT = new ConcurrentHashMap<>();

    private Stops() {}

    /** Of a consumer, in place of those of one before it that had its name. */
    static Map<TopicPartition, Long> of(String clientId) {
        Map<TopicPartition, Long> own = new ConcurrentHashMap<>();
        BY_CLIENT.put(clientId, own);
        return own;
    }

    static long of(String clientId, TopicPartition partition) {
        return clientId == null ? NONE : BY_CLIENT.getOrDefault(clientId, Map.of()).getOrDefault(partition, NONE);
    }

    /** A restarted task may have its own by then. */
    static void forget(Map<TopicPartition, Long> own) {
        BY_CLIENT.values().removeIf(stops -> stops == own);
    }
}
