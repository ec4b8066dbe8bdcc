package peer;

import static org.apache.kafka.streams.kstream.Suppressed.BufferConfig.unbounded;

import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Final results of tumbling windows, as the documentation has them: an aggregation with a grace period, and
 * {@code suppress(untilWindowCloses)}.
 * https://kafka.apache.org/42/javadoc/org/apache/kafka/streams/kstream/Suppressed.html
 *
 * <p>Windows close by stream time, which is the latest event time that a task has seen. After a repartition a task gets
 * the records of all source partitions through one topic, in the order in which they were read. Where one partition is
 * read further than another, the other's records come late and are dropped, and Kafka Streams has nothing to hold the
 * faster one back. So each source partition is repartitioned through a topic of its own: a task that reads several
 * topics takes their records in the order of time, and waits up to {@code max.task.idle.ms} for one that has none.
 */
final class Windows {
    private static final Serde<byte[]> BYTES = Serdes.ByteArray();
    private static final Serde<String> KEY = Serdes.String();
    private static final Serde<Long> AMOUNT = Serdes.Long();

    private final Work work;
    private final int partitions;

    Windows(Work work, int partitions) {
        this.work = work;
        this.partitions = partitions;
    }

    Topology topology() {
        var builder = new StreamsBuilder();
        var events = builder.stream(
                        work.source(),
                        Consumed.with(BYTES, Json.serde(Event.class)).withTimestampExtractor(eventTime()))
                .processValues(Place::new);
        List<KStream<byte[], Placed>> byPartition = IntStream.range(0, partitions)
                .mapToObj(partition -> events.filter((key, placed) -> placed.partition == partition))
                .toList();
        for (int aggregate = 0; aggregate < work.aggregates(); aggregate++) {
            results(aggregate, amounts(aggregate, byPartition));
        }
        return builder.build();
    }

    private TimestampExtractor eventTime() {
        return work.eventTime().equals("kafka")
                ? (record, previous) -> record.timestamp()
                : (record, previous) -> ((Event) record.value()).ts();
    }

    /** The amounts by key, in the order of time. */
    private KStream<String, Long> amounts(int aggregate, List<KStream<byte[], Placed>> byPartition) {
        return IntStream.range(0, partitions)
                .mapToObj(partition -> byPartition
                        .get(partition)
                        .map((key, placed) -> KeyValue.pair(placed.event.key(aggregate), placed.event.amount()))
                        .repartition(Repartitioned.with(KEY, AMOUNT)
                                .withName("aggregate-" + aggregate + "-partition-" + partition)
                                .withNumberOfPartitions(partitions)))
                .reduce(KStream::merge)
                .orElseThrow();
    }

    private void results(int aggregate, KStream<String, Long> amounts) {
        var number = work.aggregates() > 1 ? aggregate : null;
        var size = Duration.ofMillis(work.windowMs());
        var grace = Duration.ofMillis(work.outOfOrdernessMs());
        amounts.groupByKey(Grouped.with(KEY, AMOUNT))
                .windowedBy(TimeWindows.ofSizeAndGrace(size, grace))
                .aggregate(
                        Total::new,
                        (key, amount, total) -> total.plus(amount),
                        Materialized.<String, Total, WindowStore<Bytes, byte[]>>as("totals-" + aggregate)
                                .withKeySerde(KEY)
                                .withValueSerde(Total.SERDE)
                                .withRetention(size.plus(grace)))
                .suppress(Suppressed.untilWindowCloses(unbounded()))
                .toStream()
                .map((window, total) -> KeyValue.pair(
                        (byte[]) null,
                        new Result(number, window.key(), window.window().start(), total.count(), total.sum())))
                .to(work.results(), Produced.with(BYTES, Json.serde(Result.class)));
    }

    /** An event with the source partition that it stands in. */
    private record Placed(Event event, int partition) {}

    private static final class Place extends ContextualFixedKeyProcessor<byte[], Event, Placed> {
        @Override
        public void process(FixedKeyRecord<byte[], Event> record) {
            int partition = context().recordMetadata().orElseThrow().partition();
            context().forward(record.withValue(new Placed(record.value(), partition)));
        }
    }
}
