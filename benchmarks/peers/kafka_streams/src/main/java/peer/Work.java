package peer;

import com.fasterxml.jackson.annotation.JsonProperty;

/** Those fields of benchmarks.peers.peer.Work that the topology depends on. */
record Work(
        String source,
        String results,
        @JsonProperty("window_ms") long windowMs,
        @JsonProperty("out_of_orderness_ms") long outOfOrdernessMs,
        @JsonProperty("event_time") String eventTime,
        int aggregates) {}
