package peer;

import static org.apache.flink.configuration.CheckpointingOptions.CHECKPOINTING_INTERVAL;
import static org.apache.flink.configuration.CheckpointingOptions.CHECKPOINTS_DIRECTORY;

import java.util.stream.IntStream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.formats.json.JsonDeserializationSchema;
import org.apache.flink.formats.json.JsonSerializationSchema;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;

/**
 * Tumbling windows of the DataStream API with an incremental aggregation, as the documentation has them.
 *
 * <p>The Kafka source makes watermarks for each partition, so partitions may be read unevenly.
 */
public final class Windows {
    private final Work work;

    private Windows(Work work) {
        this.work = work;
    }

    /** Submits the job; the argument is the work as JSON. */
    public static void main(String[] args) throws Exception {
        new Windows(new ObjectMapper().readValue(args[0], Work.class)).run();
    }

    private void run() throws Exception {
        var settings = new Configuration();
        settings.set(CHECKPOINTING_INTERVAL, work.checkpointInterval());
        settings.set(CHECKPOINTS_DIRECTORY, work.checkpoints().toString());
        var environment = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        environment.setParallelism(work.slots());
        var events = environment.fromSource(source(), watermarks(), "events");
        IntStream.range(0, work.aggregates())
                .mapToObj(aggregate -> results(events, aggregate))
                .reduce((one, other) -> one.union(other))
                .orElseThrow()
                .sinkTo(sink());
        environment.execute(work.results());
    }

    private DataStream<Result> results(DataStream<Event> events, int aggregate) {
        var number = work.aggregates() > 1 ? aggregate : null;
        return events.map(event -> Tuple2.of(event.key(aggregate), event.amount))
                .returns(Types.TUPLE(Types.STRING, Types.LONG))
                .keyBy(pair -> pair.f0)
                .window(TumblingEventTimeWindows.of(work.window()))
                .aggregate(new CountAndSum(), new ToResult(number));
    }

    private WatermarkStrategy<Event> watermarks() {
        var strategy = WatermarkStrategy.<Event>forBoundedOutOfOrderness(work.outOfOrderness());
        // Without an assigner it is Kafka's timestamp.
        return work.isKafkaTime() ? strategy : strategy.withTimestampAssigner((event, kafkaTime) -> event.ts);
    }

    private KafkaSource<Event> source() {
        return KafkaSource.<Event>builder()
                .setBootstrapServers(work.bootstrapServers())
                .setTopics(work.source())
                .setGroupId(work.results())
                .setProperty("isolation.level", "read_committed")
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setValueOnlyDeserializer(new JsonDeserializationSchema<>(Event.class))
                .build();
    }

    private KafkaSink<Result> sink() {
        return KafkaSink.<Result>builder()
                .setBootstrapServers(work.bootstrapServers())
                .setRecordSerializer(KafkaRecordSerializationSchema.<Result>builder()
                        .setTopic(work.results())
                        .setValueSerializationSchema(new JsonSerializationSchema<>())
                        .build())
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                .setTransactionalIdPrefix(work.results())
                // What a broker grants; the sink's own default is 1 h.
                .setProperty("transaction.timeout.ms", "900000")
                .build();
    }
}
