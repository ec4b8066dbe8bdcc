package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.junit.jupiter.api.Test;

class FetchesTest {

    @Test
    void aConsumerIsFetchingForSomeTimeAfterEachAnswer() {
        FakeConsumer consumer = new FakeConsumer("own-0");
        assertFalse(Fetches.isFetching("own-0", 1000));
        consumer.answers = 1;
        assertTrue(Fetches.isFetching("own-0", 2000));
        assertTrue(Fetches.isFetching("own-0", 6999));
        assertFalse(Fetches.isFetching("own-0", 7000));
        consumer.answers = 2;
        assertTrue(Fetches.isFetching("own-0", 50_000));
        consumer.close();
    }

    @Test
    void othersAreNotKnown() {
        FakeConsumer consumer = new FakeConsumer("known-0");
        consumer.answers = 5;
        assertFalse(Fetches.isFetching("known", 0));
        assertFalse(Fetches.isFetching("known-1", 0));
        consumer.close();
        assertFalse(Fetches.isFetching("known-0", 0));
    }

    @Test
    void theConsumerOfATaskThatIsGoneLeavesThatOfTheNext() {
        FakeConsumer first = new FakeConsumer("again-0");
        FakeConsumer second = new FakeConsumer("again-0");
        first.answers = 5;
        assertFalse(Fetches.isFetching("again-0", 0));
        first.close();
        second.answers = 5;
        assertTrue(Fetches.isFetching("again-0", 1));
        second.close();
        assertFalse(Fetches.isFetching("again-0", 2));
    }

    @Test
    void aRealConsumerCountsItsFetchesUnderThatName() {
        Map<String, Object> configs = Map.of(
                "bootstrap.servers", "localhost:1",
                "client.id", "real-0",
                "metric.reporters", Fetches.class.getName(),
                "key.deserializer", ByteArrayDeserializer.class,
                "value.deserializer", ByteArrayDeserializer.class);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(configs)) {
            long found = consumer.metrics().keySet().stream().filter(Fetches::isTotal).count();
            assertEquals(1, found);
            assertFalse(Fetches.isFetching("real-0", 0));
        }
    }

    @Test
    void clientsWithoutFetchesAreNoTrouble() {
        Fetches fetches = new Fetches();
        fetches.configure(Map.of());
        fetches.init(List.of());
        fetches.close();
        assertEquals("prefix-3", new Watermarks(0, 0, 0, 0, 0, "prefix").clientId(3));
    }
}
