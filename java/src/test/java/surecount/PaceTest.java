package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class PaceTest {

    private static final int BATCH = 9_000_000;

    private final Pace pace = new Pace();
    private long nowNs = 7;

    /** How many batches a bundle has, of eight at most, where Python takes so long for each. */
    private int bundle(int length, long msOfBatch) {
        for (int batches = 1; ; batches++) {
            pace.sent(length, nowNs);
            if (batches == 8 || pace.isEnough()) {
                nowNs += batches * msOfBatch * 1_000_000;
                pace.ended(nowNs);
                return batches;
            }
        }
    }

    @Test
    void aBundleHoldsWhatTakesPythonASecond() {
        assertEquals(1, bundle(BATCH, 100), "nothing is known");
        assertEquals(8, bundle(BATCH, 100));
        assertEquals(8, bundle(BATCH, 400));
        assertEquals(3, bundle(BATCH, 400));
        assertEquals(3, bundle(BATCH, 50_000));
        assertEquals(1, bundle(BATCH, 50_000));
        assertEquals(1, bundle(BATCH, 100));
        assertEquals(8, bundle(BATCH, 100));
    }

    @Test
    void smallBatchesTellOfLargeOnes() {
        bundle(9_000, 50);
        assertEquals(1, bundle(BATCH, 50_000));
    }

    @Test
    void anEndWithoutBatchesTellsNothing() {
        bundle(BATCH, 100);
        pace.ended(nowNs + 1_000_000_000_000L);
        assertEquals(8, bundle(BATCH, 100));
    }
}
