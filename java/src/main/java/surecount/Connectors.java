package surecount;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.TransactionNamingStrategy;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetResetStrategy;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;

/**
 * Makes sources and sinks in one call each, for Python.
 *
 * <p>No source ever sets an offset back or forth by itself: where records that it has to read are gone, it fails.
 */
public final class Connectors {

    private static final String PREFIX = "client.id.prefix";

    private Connectors() {}

    /**
     * A source of packs. Without state it begins at the topics' beginnings, or {@code fromGroup}, where its group has
     * committed; a partition where it has not is an error. {@code bounded}, it ends where the topics end at its start.
     */
    public static AnnouncingSource<byte[]> source(
            Map<String, String> properties,
            List<String> topics,
            Map<String, String> moved,
            boolean bounded,
            boolean fromGroup) {
        PackSchema schema = new PackSchema(topics);
        return new AnnouncingSource<>(kafka(properties, topics, schema, bounded, fromGroup), schema::announcement, moved, properties.get(PREFIX));
    }

    /** A source of the records that a relay copies. */
    public static AnnouncingSource<byte[][]> relaySource(
            Map<String, String> properties,
            List<String> topics,
            Map<String, String> moved,
            boolean bounded,
            boolean fromGroup) {
        return new AnnouncingSource<>(kafka(properties, topics, new RelaySchema(), bounded, fromGroup), null, moved, properties.get(PREFIX));
    }

    private static <T> KafkaSource<T> kafka(
            Map<String, String> properties,
            List<String> topics,
            KafkaRecordDeserializationSchema<T> schema,
            boolean bounded,
            boolean fromGroup) {
        var builder = KafkaSource.<T>builder()
                .setProperties(of(properties))
                .setTopics(topics)
                .setStartingOffsets(fromGroup ? OffsetsInitializer.committedOffsets() : new Beginnings())
                .setDeserializer(schema);
        return (bounded ? builder.setBounded(OffsetsInitializer.latest()) : builder).build();
    }

    /** A sink that writes to a topic; {@code guarantee} is Flink's, {@code most} as {@link Written} has it. */
    public static KafkaSink<byte[][]> sink(
            Map<String, String> properties, String topic, String transactionalIdPrefix, String guarantee, int most) {
        return KafkaSink.<byte[][]>builder()
                .setKafkaProducerConfig(of(properties))
                .setDeliveryGuarantee(DeliveryGuarantee.valueOf(guarantee))
                .setTransactionNamingStrategy(TransactionNamingStrategy.POOLING)
                .setTransactionalIdPrefix(transactionalIdPrefix)
                .setRecordSerializer(new Written(topic, most))
                .build();
    }

    private static Properties of(Map<String, String> properties) {
        Properties of = new Properties();
        of.putAll(properties);
        return of;
    }

    /**
     * The first offsets of partitions, as numbers, so that snapshots have them. {@code OffsetsInitializer.earliest()}
     * has consumers go to the earliest offset also where those that they wanted are gone.
     */
    static final class Beginnings implements OffsetsInitializer {

        private static final long serialVersionUID = 1L;

        @Override
        public Map<TopicPartition, Long> getPartitionOffsets(
                Collection<TopicPartition> partitions, PartitionOffsetsRetriever retriever) {
            return retriever.beginningOffsets(partitions);
        }

        @Override
        @SuppressWarnings("deprecation")
        public OffsetResetStrategy getAutoOffsetResetStrategy() {
            return OffsetResetStrategy.NONE;
        }
    }
}
