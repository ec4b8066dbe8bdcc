package peer;

import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.annotation.JsonInclude;

/** What is written; {@code start} in ms since 1970, no {@code aggregate} where there is one only. */
@JsonInclude(JsonInclude.Include.NON_NULL)
public class Result {
    public Integer aggregate;
    public String key;
    public long start;
    public long count;
    public long sum;
}
