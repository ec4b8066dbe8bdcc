package peer;

import com.fasterxml.jackson.annotation.JsonProperty;

/** What is read; {@code ts} in ms since 1970. */
record Event(
        long ts,
        long amount,
        String key,
        @JsonProperty("key_1") String key1,
        @JsonProperty("key_2") String key2) {

    /** The key of an aggregate. */
    String key(int aggregate) {
        return switch (aggregate) {
            case 0 -> key;
            case 1 -> key1;
            case 2 -> key2;
            default -> throw new IllegalArgumentException("there is no aggregate " + aggregate);
        };
    }
}
