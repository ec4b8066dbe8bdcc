package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static surecount.PartitionWatermarks.NONE;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import surecount.PartitionWatermarks.Clock;

class PartitionWatermarksTest {

    private static final long BEHIND = 5_000;
    private static final long IDLE_AFTER = 2_000;
    private static final long AHEAD = 60_000;
    private static final long T = 1_700_000_000_000L;

    private final PartitionWatermarks marks = new PartitionWatermarks(BEHIND, IDLE_AFTER, AHEAD, new Clock(0, Math.min(BEHIND, IDLE_AFTER)));
    private long nowMs = T;

    private void seen(int partition, long timeMs) {
        marks.seen(0, partition, timeMs, timeMs, nowMs);
    }

    private void pass(long ms, boolean isFetching) {
        for (long end = nowMs + ms; nowMs < end; ) {
            nowMs += 200;
            marks.tick(nowMs, isFetching);
        }
    }

    @Test
    void allPartitionsAreWaitedFor() {
        marks.announce(0, 0);
        marks.announce(0, 1);
        seen(0, T - 100);
        assertEquals(NONE, marks.watermark());
        seen(1, T - 3_000);
        assertEquals(T - 3_000 - BEHIND, marks.watermark());
        seen(1, T - 4_000);
        seen(1, T - 50);
        assertEquals(T - 100 - BEHIND, marks.watermark());
        marks.seen(1, 1, NONE, NONE, nowMs);
        assertEquals(T - 100 - BEHIND, marks.watermark());
        assertEquals(NONE, marks.watermark(1, 1));
        assertEquals(T - 50 - BEHIND, marks.watermark(0, 1));
    }

    @Test
    void noClockOfAProducerIsFollowed() {
        seen(0, T + AHEAD + 1);
        assertEquals(NONE, marks.watermark());
        seen(0, T + AHEAD);
        assertEquals(T - BEHIND, marks.watermark());
        seen(0, T - 1);
        assertEquals(T - BEHIND, marks.watermark());
    }

    @Test
    void aQuietPartitionIsNotWaitedFor() {
        seen(0, T);
        marks.announce(0, 1);
        pass(IDLE_AFTER, true);
        seen(0, nowMs);
        assertEquals(NONE, marks.watermark());
        pass(200, true);
        assertTrue(marks.isIdle(0, 1));
        assertFalse(marks.isIdle(0, 0));
        assertFalse(marks.isIdle());
        assertEquals(nowMs - 200 - BEHIND, marks.watermark());
        long before = marks.watermark();
        seen(1, T - 60_000);
        assertFalse(marks.isIdle(0, 1));
        assertEquals(before, marks.watermark());
        seen(0, nowMs);
        assertEquals(before, marks.watermark());
    }

    @Test
    void nothingIsQuietWhileKafkaDoesNotAnswerOrTheThreadIsBlocked() {
        seen(0, T);
        pass(100_000, false);
        assertFalse(marks.isIdle());
        nowMs += 100_000;
        marks.tick(nowMs, true);
        nowMs += 100_000;
        marks.tick(nowMs, true);
        assertFalse(marks.isIdle());
        nowMs -= 1_000_000;
        marks.tick(nowMs, true);
        assertFalse(marks.isIdle());
    }

    @Test
    void theWatermarkGoesOnWithTheClockWhileAllIsQuiet() {
        seen(0, T - 1_000);
        seen(1, T - 40_000);
        marks.announce(0, 2);
        pass(IDLE_AFTER, true);
        assertFalse(marks.isIdle());
        pass(200, true);
        assertTrue(marks.isIdle());
        // The tick in which the last time came does not count.
        assertEquals(T - 1_000 + IDLE_AFTER - IDLE_AFTER, marks.watermark());
        pass(60_000, true);
        assertEquals(T - 1_000 + 60_000, marks.watermark());
        pass(60_000, false);
        assertEquals(T - 1_000 + 60_000, marks.watermark());
        assertTrue(marks.watermark() <= nowMs);
    }

    @Test
    void theClockIsNotPassed() {
        PartitionWatermarks eager = new PartitionWatermarks(0, IDLE_AFTER, AHEAD, new Clock(0, 0));
        eager.seen(0, 0, T, T + AHEAD, T);
        for (long now = T; now <= T + 10_000; now += 200) {
            eager.tick(now, true);
            assertTrue(eager.watermark() <= now);
        }
        assertTrue(eager.isIdle());
    }

    @Test
    void theClockMovesNothingWhereItIsNotFollowed() {
        PartitionWatermarks still = new PartitionWatermarks(0, IDLE_AFTER, AHEAD, null);
        still.seen(0, 0, T, T, T);
        assertEquals(T, still.watermark());
        for (long now = T; now <= T + 10_000; now += 200) {
            still.tick(now, true);
        }
        assertTrue(still.isIdle());
        assertEquals(T, still.watermark());
    }

    @Test
    void recordsThatMoveNoWatermarkHoldTheClockBack() {
        PartitionWatermarks found = new PartitionWatermarks(0, IDLE_AFTER, AHEAD, new Clock(IDLE_AFTER, 0));
        for (long now = T; now <= T + 10 * IDLE_AFTER; now += 200) {
            found.seen(0, 0, NONE, now, now);
            found.tick(now, true);
            assertEquals(NONE, found.watermark());
        }
        assertTrue(found.isIdle());
    }

    @Test
    void theClockGoesOnAfterARestart() {
        PartitionWatermarks restored = new PartitionWatermarks(0, IDLE_AFTER, AHEAD, new Clock(0, 0));
        restored.restore(marks.newest());
        restored.restore(T);
        restored.announce(0, 0);
        for (long now = T; now <= T + 10_000; now += 200) {
            restored.tick(now, true);
        }
        assertEquals(T, restored.newest());
        assertTrue(restored.watermark() > T + 9_000);
    }

    @Test
    void withoutAnyTimeAnIdleSubtaskHasNoWatermark() {
        marks.announce(0, 0);
        pass(10 * IDLE_AFTER, true);
        assertTrue(marks.isIdle());
        assertEquals(NONE, marks.watermark());
    }

    @Test
    void aSubtaskWithoutPartitionsIsIdle() {
        pass(IDLE_AFTER, false);
        assertFalse(marks.isIdle());
        pass(200, false);
        assertTrue(marks.isIdle());
        marks.announce(0, 0);
        assertFalse(marks.isIdle());
        assertFalse(marks.isIdle(0, 1));
    }

    @Test
    void aSubtaskWithoutPartitionsIsIdleSoonHoweverLongAPartitionMayBeQuiet() {
        PartitionWatermarks patient = new PartitionWatermarks(BEHIND, 600_000, AHEAD, new Clock(600_000, BEHIND));
        patient.restore(T);
        long now = T;
        for (; now <= T + PartitionWatermarks.UNASSIGNED_MS; now += 200) {
            assertFalse(patient.isIdle());
            patient.tick(now, false);
        }
        assertTrue(patient.isIdle());
        assertEquals(NONE, patient.watermark());
        patient.announce(0, 0);
        for (; now <= T + 60_000; now += 200) {
            patient.tick(now, true);
            assertFalse(patient.isIdle());
        }
    }

    @Test
    void recordsWithoutATimeForTheWatermarkHoldBackTheClockOnly() {
        seen(0, T);
        for (int i = 0; i < 100; i++) {
            pass(200, true);
            marks.seen(0, 0, NONE, nowMs - 7, nowMs);
        }
        assertTrue(marks.isIdle());
        assertEquals(nowMs - 7 - IDLE_AFTER, marks.watermark());
    }

    @Test
    void aBoundedJobIsNeverIdle() {
        PartitionWatermarks bounded = new PartitionWatermarks(BEHIND, 0, AHEAD, new Clock(0, 0));
        for (long now = T; now <= T + 1_000_000; now += 200) {
            bounded.tick(now, true);
        }
        assertFalse(bounded.isIdle());
        bounded.announce(0, 0);
        bounded.seen(0, 1, T, T, T + 1_000_000);
        for (long now = T; now <= T + 1_000_000; now += 200) {
            bounded.tick(now, true);
        }
        assertFalse(bounded.isIdle());
        assertFalse(bounded.isIdle(0, 0));
        assertEquals(NONE, bounded.watermark());
    }

    @Test
    void itDoesAsAPlainModel() {
        long seed = new Random().nextLong();
        Random random = new Random(seed);
        for (int round = 0; round < 100; round++) {
            long behind = random.nextInt(3) * 1_000L;
            long idleAfter = random.nextInt(4) * 500L;
            Model model = new Model(behind, idleAfter, 1_000);
            PartitionWatermarks found = new PartitionWatermarks(behind, idleAfter, 1_000, new Clock(0, Math.min(behind, idleAfter)));
            long now = 100_000;
            for (int i = 0; i < 80; i++) {
                now += random.nextInt(20) == 0 ? random.nextInt(3_000) - 1_000 : random.nextInt(300);
                int partition = random.nextInt(3);
                switch (random.nextInt(6)) {
                    case 0:
                        model.steps.add(new Step(partition, NONE, NONE, now, false, false));
                        found.announce(0, partition);
                        break;
                    case 1:
                        long time = random.nextInt(4) == 0 ? NONE : now + random.nextInt(8_000) - 6_000;
                        long newest = random.nextInt(4) == 0 ? NONE : now + random.nextInt(8_000) - 6_000;
                        model.steps.add(new Step(partition, time, newest, now, true, false));
                        found.seen(0, partition, time, newest, now);
                        break;
                    default:
                        boolean isFetching = random.nextInt(5) > 0;
                        model.steps.add(new Step(-1, NONE, NONE, now, true, isFetching));
                        found.tick(now, isFetching);
                }
                String where = "seed " + seed + " round " + round + " step " + i;
                assertEquals(model.isIdle(), found.isIdle(), where);
                assertEquals(model.watermark(), found.watermark(), where);
                for (int p = 0; p < 3; p++) {
                    assertEquals(model.known(i + 1).contains(p) && model.isIdle(p), found.isIdle(0, p), where);
                    assertEquals(model.mark(p), found.watermark(0, p), where);
                }
            }
        }
    }

    /** A tick where {@code partition} is -1; else an announcement, or times. */
    private record Step(int partition, long time, long newest, long now, boolean tellsTime, boolean isFetching) {}

    /** Finds everything anew in all that has happened. */
    private static final class Model {
        private final long behind;
        private final long idleAfter;
        private final long ahead;
        private final List<Step> steps = new ArrayList<>();
        private long watermark = NONE;

        Model(long behind, long idleAfter, long ahead) {
            this.behind = behind;
            this.idleAfter = idleAfter;
            this.ahead = ahead;
        }

        Set<Integer> known(int end) {
            Set<Integer> known = new HashSet<>();
            steps.subList(0, end).forEach(step -> known.add(step.partition));
            known.remove(-1);
            return known;
        }

        private boolean counts(long time, long now) {
            return time != NONE && time <= now + ahead;
        }

        long mark(int partition) {
            long mark = NONE;
            for (Step step : steps) {
                if (step.partition == partition && counts(step.time, step.now)) {
                    mark = Math.max(mark, Math.min(step.time, step.now) - behind);
                }
            }
            return mark;
        }

        /** Since the last step that interrupts it; the tick in which that was does not count. */
        private long quiet(int partition) {
            int last = -1;
            for (int i = 0; i < steps.size(); i++) {
                Step step = steps.get(i);
                boolean isOwn = step.partition >= 0 && (partition == -1 || step.partition == partition);
                boolean isFirst = isOwn && !known(i).contains(step.partition);
                boolean isHeard = isOwn
                        && (counts(step.time, step.now) || partition == -1 && counts(step.newest, step.now));
                last = isFirst || isHeard ? i : last;
            }
            long quiet = 0;
            boolean isNew = true;
            Step before = null;
            for (int i = 0; i < steps.size(); i++) {
                Step step = steps.get(i);
                if (step.partition >= 0) {
                    continue;
                }
                if (i > last) {
                    if (!isNew && (step.isFetching || known(i).isEmpty())) {
                        quiet += Math.max(0, Math.min(step.now - before.now, 400));
                    }
                    isNew = false;
                }
                before = step;
            }
            return quiet;
        }

        boolean isIdle(int partition) {
            return idleAfter > 0 && quiet(partition) >= idleAfter;
        }

        boolean isIdle() {
            Set<Integer> known = known(steps.size());
            return known.isEmpty() ? isIdle(-1) : known.stream().allMatch(this::isIdle);
        }

        long watermark() {
            long found = NONE;
            if (!isIdle()) {
                found = known(steps.size()).stream()
                        .filter(partition -> !isIdle(partition))
                        .mapToLong(this::mark)
                        .min()
                        .orElse(NONE);
            } else {
                long newest = NONE;
                long now = NONE;
                for (Step step : steps) {
                    now = step.tellsTime ? step.now : now;
                    if (counts(step.newest, step.now)) {
                        newest = Math.max(newest, Math.min(step.newest, step.now));
                    }
                }
                found = newest == NONE ? NONE : Math.min(newest + quiet(-1) - Math.min(behind, idleAfter), now);
            }
            watermark = Math.max(watermark, found);
            return watermark;
        }
    }
}
