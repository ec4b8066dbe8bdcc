package surecount;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.MetricName;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.metrics.KafkaMetric;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.metrics.MetricsReporter;

/**
 * Tells whether Kafka answers a consumer's fetches, for {@link Decoded}: no records from a broker that is away does not
 * mean that there are none.
 *
 * <p>A consumer makes one by its property {@code metric.reporters}, which tells it the consumer's metrics. An idle
 * consumer gets an empty answer each half second.
 */
public final class Fetches implements MetricsReporter {

    /** For how long a consumer's last answer counts. */
    static final long FRESH_MS = 5_000;

    private static final String GROUP = "consumer-fetch-manager-metrics";
    private static final String TOTAL = "fetch-total";
    private static final String CLIENT = "client-id";

    /** Of the consumers of this process, by client id. */
    private static final Map<String, Answers> BY_CLIENT = new ConcurrentHashMap<>();

    private static final class Answers {
        private final KafkaMetric total;
        private double last;
        private long changedMs = Long.MIN_VALUE;

        Answers(KafkaMetric total) {
            this.total = total;
        }

        synchronized boolean areFresh(long nowMs) {
            double now = (Double) total.metricValue();
            if (now != last) {
                last = now;
                changedMs = nowMs;
            }
            return changedMs != Long.MIN_VALUE && nowMs - changedMs < FRESH_MS;
        }
    }

    private Answers own;

    /**
     * Whether the number of fetches that Kafka has answered a consumer has changed within {@link #FRESH_MS}. Ask more
     * often than that. False for a consumer that is not known.
     */
    static boolean isFetching(String clientId, long nowMs) {
        Answers found = BY_CLIENT.get(clientId);
        return found != null && found.areFresh(nowMs);
    }

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void init(List<KafkaMetric> metrics) {
        metrics.forEach(this::metricChange);
    }

    @Override
    public void metricChange(KafkaMetric metric) {
        MetricName name = metric.metricName();
        if (isTotal(name)) {
            own = new Answers(metric);
            BY_CLIENT.put(name.tags().get(CLIENT), own);
        }
    }

    /** Whether a metric is the number of fetches that Kafka has answered a consumer. */
    static boolean isTotal(MetricName name) {
        return name.name().equals(TOTAL) && name.group().equals(GROUP) && name.tags().keySet().equals(Set.of(CLIENT));
    }

    @Override
    public void metricRemoval(KafkaMetric metric) {}

    /** A restarted task may have made its consumer before the last one's is closed. */
    @Override
    public void close() {
        BY_CLIENT.values().removeIf(answers -> answers == own);
    }
}
