package peer;

import java.net.URI;
import java.nio.file.Path;
import java.time.Duration;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.annotation.JsonProperty;

/** The fields of benchmarks.peers.peer.Work. */
record Work(
        @JsonProperty("bootstrap_servers") String bootstrapServers,
        String source,
        String results,
        Path folder,
        int slots,
        @JsonProperty("window_ms") long windowMs,
        @JsonProperty("out_of_orderness_ms") long outOfOrdernessMs,
        @JsonProperty("checkpoint_ms") long checkpointMs,
        @JsonProperty("event_time") String eventTime,
        int aggregates) {

    boolean isKafkaTime() {
        return eventTime.equals("kafka");
    }

    Duration window() {
        return Duration.ofMillis(windowMs);
    }

    Duration outOfOrderness() {
        return Duration.ofMillis(outOfOrdernessMs);
    }

    Duration checkpointInterval() {
        return Duration.ofMillis(checkpointMs);
    }

    URI checkpoints() {
        return folder.resolve("checkpoints").toUri();
    }
}
