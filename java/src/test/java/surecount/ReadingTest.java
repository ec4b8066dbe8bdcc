package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class ReadingTest {

    private static final int MOST = (int) Reading.MOST_BYTES;

    private final Reading reading = Reading.begin("reading-0");

    private static ConsumerRecord<byte[], byte[]> pack(int size) {
        return new ConsumerRecord<>("events", 0, 0, null, new byte[size]);
    }

    /** A thread that waits until packs of so many bytes may wait. */
    private Thread waiting(int more) throws InterruptedException {
        Thread thread = new Thread(() -> reading.await(more));
        thread.start();
        while (thread.isAlive() && thread.getState() != Thread.State.WAITING) {
            Thread.onSpinWait();
        }
        return thread;
    }

    @Test
    void aPollWaitsUntilTheTaskHasTakenEnough() throws Exception {
        var packs = List.of(pack(MOST / 2), pack(MOST / 2));
        packs.forEach(reading::add);
        Thread poll = waiting(MOST / 2 + 1);
        Reading.taken(packs.get(0));
        while (poll.getState() != Thread.State.WAITING) {
            Thread.onSpinWait();
        }
        Reading.taken(packs.get(1));
        poll.join();
        assertEquals(0, reading.bytes());
    }

    @Test
    void aPollOfAnySizeIsTakenWhereNothingWaits() {
        reading.await(10L * MOST);
        reading.add(pack(1));
        reading.await(MOST - 1);
    }

    @Test
    void aSourceThatClosesLetsThePollGo() throws Exception {
        reading.add(pack(MOST));
        Thread poll = waiting(1);
        assertTrue(poll.isAlive());
        reading.close();
        poll.join();
    }

    @Test
    void anInterruptLetsThePollGoAndStays() throws Exception {
        reading.add(pack(MOST));
        boolean[] isInterrupted = {false};
        Thread poll = new Thread(() -> {
            reading.await(1);
            isInterrupted[0] = Thread.currentThread().isInterrupted();
        });
        poll.start();
        poll.interrupt();
        poll.join();
        assertTrue(isInterrupted[0]);
    }

    @Test
    void aRestartedReaderHasItsOwn() {
        Reading next = Reading.begin("reading-0");
        reading.close();
        assertEquals(next, Reading.of("reading-0"));
        next.close();
        assertThrows(IllegalStateException.class, () -> Reading.of("reading-0"));
    }

    @Test
    void aPackThatNobodyCountsIsTakenToo() {
        Reading.taken(pack(3));
    }
}
