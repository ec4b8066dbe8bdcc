package surecount;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.ByteBuffer;
import java.util.Map;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.SerializationException;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Headers;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.internals.RecordHeaders;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Against Kafka's own consumer and a broker: {@code tests/job/test_large_records.py}. */
class PollLimitTest {

    private static final int MEGABYTE = 1 << 20;

    private static PollLimit of(boolean isKey) {
        PollLimit limit = new PollLimit();
        limit.configure(Map.of(), isKey);
        return limit;
    }

    private static byte[] read(PollLimit limit, Headers headers, int size) {
        return limit.deserialize("topic", headers, ByteBuffer.allocate(size));
    }

    @AfterEach
    void pollEnds() {
        new PollLimit().onConsume(ConsumerRecords.empty());
    }

    @Test
    void aPollEndsAboveItsLimitAndTheNextOneTakesWhatWasRefused() {
        PollLimit values = of(false);
        for (int i = 0; i < 9; i++) {
            assertEquals(MEGABYTE, read(values, new RecordHeaders(), MEGABYTE).length);
        }
        for (int again = 0; again < 3; again++) {
            assertThrows(SerializationException.class, () -> read(values, new RecordHeaders(), 1));
        }
        pollEnds();
        assertEquals(1, read(values, new RecordHeaders(), 1).length);
    }

    @Test
    void theFirstRecordOfAPollMayBeOfAnySize() {
        assertEquals(17 * MEGABYTE, read(of(false), new RecordHeaders(), 17 * MEGABYTE).length);
        assertThrows(SerializationException.class, () -> read(of(false), new RecordHeaders(), 0));
    }

    @Test
    void keysAndHeadersCount() {
        Headers headers = new RecordHeaders().add("none", null).add("h", new byte[4 * MEGABYTE]);
        read(of(true), headers, 4 * MEGABYTE);
        read(of(false), headers, 0);
        assertThrows(SerializationException.class, () -> read(of(true), headers, 0));
    }

    @Test
    void bytesStayAsTheyAre() {
        byte[] value = {1, 2, 3};
        ByteBuffer within = ByteBuffer.wrap(new byte[] {0, 1, 2, 3, 4}, 1, 3);
        assertArrayEquals(value, of(false).deserialize("topic", new RecordHeaders(), within));
    }
}
