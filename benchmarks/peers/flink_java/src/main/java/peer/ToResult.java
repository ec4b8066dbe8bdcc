package peer;

import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** Adds key and start to the total of a window. */
final class ToResult extends ProcessWindowFunction<Total, Result, String, TimeWindow> {
    private final Integer aggregate;

    ToResult(Integer aggregate) {
        this.aggregate = aggregate;
    }

    @Override
    public void process(String key, Context context, Iterable<Total> totals, Collector<Result> out) {
        var total = totals.iterator().next();
        var result = new Result();
        result.aggregate = aggregate;
        result.key = key;
        result.start = context.window().getStart();
        result.count = total.count;
        result.sum = total.sum;
        out.collect(result);
    }
}
