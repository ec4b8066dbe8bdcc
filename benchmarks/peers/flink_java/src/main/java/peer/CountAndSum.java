package peer;

import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.java.tuple.Tuple2;

/** Counts pairs of key and amount, and sums the amounts. */
final class CountAndSum implements AggregateFunction<Tuple2<String, Long>, Total, Total> {
    @Override
    public Total createAccumulator() {
        return new Total();
    }

    @Override
    public Total add(Tuple2<String, Long> pair, Total total) {
        total.count++;
        total.sum += pair.f1;
        return total;
    }

    @Override
    public Total getResult(Total total) {
        return total;
    }

    @Override
    public Total merge(Total one, Total other) {
        one.count += other.count;
        one.sum += other.sum;
        return one;
    }
}
