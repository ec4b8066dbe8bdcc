package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.connector.kafka.lineage.KafkaDatasetFacet;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.streaming.api.lineage.LineageVertexProvider;
import org.apache.flink.util.InstantiationUtil;
import org.junit.jupiter.api.Test;

class ConnectorsTest {

    private static final List<String> TOPICS = List.of("a", "b");
    private static final Map<String, String> PROPERTIES =
            Map.of("bootstrap.servers", "localhost:1", "group.id", "g", "client.id.prefix", "p");

    private static AnnouncingSource<byte[]> source(boolean bounded, boolean fromGroup) {
        return Connectors.source(PROPERTIES, TOPICS, Map.of(), bounded, fromGroup);
    }

    private static Properties properties(Object source) {
        var facets = ((LineageVertexProvider) source).getLineageVertex().datasets().get(0).facets();
        return facets.values().stream()
                .filter(KafkaDatasetFacet.class::isInstance)
                .map(facet -> ((KafkaDatasetFacet) facet).getProperties())
                .findFirst()
                .orElseThrow();
    }

    @Test
    void noSourceResetsItsOffsets() {
        for (boolean fromGroup : new boolean[] {false, true}) {
            for (Object source : List.of(
                    source(false, fromGroup), Connectors.relaySource(PROPERTIES, TOPICS, Map.of(), false, fromGroup))) {
                Properties properties = properties(source);
                assertEquals("none", properties.get("auto.offset.reset"));
                assertEquals("p", properties.get("client.id.prefix"));
                assertEquals("g", properties.get("group.id"));
            }
        }
    }

    @Test
    void onlyABoundedSourceEnds() {
        assertEquals(Boundedness.CONTINUOUS_UNBOUNDED, source(false, false).getBoundedness());
        assertEquals(Boundedness.BOUNDED, source(true, false).getBoundedness());
        assertEquals(Boundedness.BOUNDED, Connectors.relaySource(PROPERTIES, TOPICS, Map.of(), true, false).getBoundedness());
    }

    @Test
    void sourcesAndSinksCanBeShipped() throws Exception {
        assertEquals(byte[].class, InstantiationUtil.clone(source(true, false)).getProducedType().getTypeClass());
        assertEquals(
                Outgoing.TYPE,
                InstantiationUtil.clone(Connectors.relaySource(PROPERTIES, TOPICS, Map.of(), false, true)).getProducedType());
        InstantiationUtil.clone(Connectors.sink(PROPERTIES, "results", "prefix", "EXACTLY_ONCE", 100));
    }

    @Test
    void aSourceBeginsAtOffsetsThatAreNumbers() {
        TopicPartition partition = new TopicPartition("a", 0);
        var retriever = new OffsetsInitializer.PartitionOffsetsRetriever() {
            @Override
            public Map<TopicPartition, Long> committedOffsets(Collection<TopicPartition> partitions) {
                throw new AssertionError();
            }

            @Override
            public Map<TopicPartition, Long> endOffsets(Collection<TopicPartition> partitions) {
                throw new AssertionError();
            }

            @Override
            public Map<TopicPartition, Long> beginningOffsets(Collection<TopicPartition> partitions) {
                return Map.of(partition, 17L);
            }

            @Override
            public Map<TopicPartition, OffsetAndTimestamp> offsetsForTimes(Map<TopicPartition, Long> times) {
                throw new AssertionError();
            }
        };
        assertEquals(
                Map.of(partition, 17L),
                new Connectors.Beginnings().getPartitionOffsets(List.of(partition), retriever));
    }
}
