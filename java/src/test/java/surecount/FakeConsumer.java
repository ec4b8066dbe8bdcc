package surecount;

import java.util.List;
import java.util.Map;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.MetricName;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.metrics.MetricConfig;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.metrics.Metrics;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.utils.Time;

/** The metrics of a Kafka consumer, that {@link Fetches} gets. */
final class FakeConsumer implements AutoCloseable {

    double answers;

    private final Metrics metrics;

    FakeConsumer(String clientId) {
        metrics = new Metrics(new MetricConfig(), List.of(new Fetches()), Time.SYSTEM);
        String group = "consumer-fetch-manager-metrics";
        Map<String, String> client = Map.of("client-id", clientId);
        metrics.addMetric(new MetricName("fetch-rate", group, "", client), (config, now) -> 9);
        metrics.addMetric(new MetricName("fetch-total", group, "", client), (config, now) -> answers);
        metrics.addMetric(
                new MetricName("fetch-total", group, "", Map.of("client-id", clientId, "topic", "a")),
                (config, now) -> 9);
    }

    @Override
    public void close() {
        metrics.close();
    }
}
