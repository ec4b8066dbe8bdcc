package peer;

import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.annotation.JsonProperty;

/** What is read; {@code ts} in ms since 1970. A POJO, as Flink's own serializer needs it. */
@JsonIgnoreProperties(ignoreUnknown = true)
public class Event {
    public long ts;
    public long amount;
    public String key;

    @JsonProperty("key_1")
    public String key1;

    @JsonProperty("key_2")
    public String key2;

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
