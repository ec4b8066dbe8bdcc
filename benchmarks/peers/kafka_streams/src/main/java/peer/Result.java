package peer;

import com.fasterxml.jackson.annotation.JsonInclude;

/** What is written; {@code start} in ms since 1970, no {@code aggregate} where there is one only. */
@JsonInclude(JsonInclude.Include.NON_NULL)
record Result(Integer aggregate, String key, long start, long count, long sum) {}
