package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static surecount.PartitionWatermarks.NONE;
import static surecount.Testing.bytes;
import static surecount.Testing.sent;
import static surecount.Testing.side;
import static surecount.Testing.utf8;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.JobID;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.runtime.clusterframework.types.ResourceID;
import org.apache.flink.runtime.executiongraph.ExecutionGraphTestUtils;
import org.apache.flink.runtime.metrics.groups.TaskManagerMetricGroup;
import org.apache.flink.runtime.metrics.util.TestingMetricRegistry;
import org.apache.flink.runtime.operators.testutils.MockEnvironmentBuilder;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.streaming.util.OneInputStreamOperatorTestHarness;
import org.apache.flink.types.Row;
import org.junit.jupiter.api.Test;

class DecodedTest {

    private static final long BEHIND = 1_000;
    private static final long IDLE_AFTER = 2_000;

    private int batch;

    private static Decoded decoded(String clientIdPrefix) {
        return new Decoded(List.of("a", "b"), new Watermarks(BEHIND, IDLE_AFTER, 60_000, IDLE_AFTER, BEHIND, clientIdPrefix));
    }

    /** The end of the next batch; entries are topic, partition, time, newest. */
    private void end(OneInputStreamOperatorTestHarness<Row, Row> harness, Object... entries) throws Exception {
        List<Object> parts = new ArrayList<>(List.of(batch++, entries.length / 4));
        parts.addAll(Arrays.asList(entries));
        harness.processElement(Row.of(Decoded.END, bytes(parts.toArray())), 0);
    }

    private static void pass(OneInputStreamOperatorTestHarness<Row, Row> harness, long ms, FakeConsumer consumer)
            throws Exception {
        for (long end = harness.getProcessingTime() + ms; harness.getProcessingTime() < end; ) {
            if (consumer != null) {
                consumer.answers++;
            }
            harness.setProcessingTime(harness.getProcessingTime() + Decoded.TICK_MS);
        }
    }

    @Test
    void piecesGoOnAndRejectedRecordsToTheSide() throws Exception {
        byte[] pack = Testing.pack(new Packer(null, 1), utf8("x"), utf8("whole"));
        Testing.with(decoded("pieces"), harness -> {
            Row piece = Row.of(3, utf8("piece"));
            Wholes wholes = Wholes.of(harness.getOperator().getContainingTask());
            end(harness);
            wholes.put(1, new byte[][] {pack});
            harness.processElement(piece, 0);
            harness.processElement(Row.of(Decoded.REJECTS, bytes("SCRJ", 4, 1, 0, 1, 5, 2, 1, "k", -1)), 0);
            assertEquals(List.of(piece), sent(harness));
            assertEquals(List.of(Arrays.asList(null, "k", "whole")), side(harness, Outgoing.REJECTS));
            end(harness);
            assertThrows(IllegalStateException.class, () -> wholes.value(1, 0, 1, 5));
        });
    }

    @Test
    void batchesEndInTheirOrder() throws Exception {
        Testing.with(decoded("order"), harness -> {
            end(harness);
            batch++;
            String message = assertThrows(IllegalStateException.class, () -> end(harness)).getMessage();
            assertEquals("batch 2 has ended, but batch 1 is next", message);
            assertThrows(IllegalStateException.class, () -> harness.processElement(Row.of(-3, new byte[0]), 0));
        });
    }

    @Test
    void theWatermarkFollowsTheBatchesThatMoveIt() throws Exception {
        Testing.with(decoded("follows"), harness -> {
            harness.setProcessingTime(100_000);
            sent(harness);
            end(harness, 0, 0, NONE, NONE, 1, 0, NONE, NONE);
            end(harness, 0, 0, 50_000L, 50_000L);
            assertEquals(List.of(), sent(harness));
            end(harness, 1, 0, 30_000L, 40_000L);
            assertEquals(List.of(new Watermark(29_000)), sent(harness));
            end(harness, 1, 0, 10_000L, 10_000L);
            pass(harness, 10_000, null);
            assertEquals(List.of(), sent(harness));
        });
    }

    @Test
    void otherWatermarksAndStatusesAreIgnored() throws Exception {
        Testing.with(decoded("ignored"), harness -> {
            harness.processWatermark(5);
            harness.processWatermarkStatus(WatermarkStatus.IDLE);
            assertEquals(List.of(), sent(harness));
        });
    }

    @Test
    void anIdleSubtaskHoldsNobodyBack() throws Exception {
        FakeConsumer consumer = new FakeConsumer("idle-0");
        Testing.with(decoded("idle"), harness -> {
            harness.setProcessingTime(100_000);
            end(harness, 0, 0, 90_000L, 90_000L);
            assertEquals(List.of(new Watermark(89_000)), sent(harness));
            pass(harness, IDLE_AFTER, consumer);
            assertEquals(List.of(), sent(harness));
            pass(harness, 200, consumer);
            // Then a second has passed.
            assertEquals(List.of(new Watermark(91_000), WatermarkStatus.IDLE), sent(harness));
            pass(harness, 2_400, consumer);
            assertEquals(
                    List.of(
                            WatermarkStatus.ACTIVE, new Watermark(92_000), WatermarkStatus.IDLE,
                            WatermarkStatus.ACTIVE, new Watermark(93_000), WatermarkStatus.IDLE),
                    sent(harness));
            end(harness, 0, 0, 95_000L, 95_000L);
            assertEquals(List.of(WatermarkStatus.ACTIVE, new Watermark(94_000)), sent(harness));
        });
        consumer.close();
    }

    @Test
    void theLastWatermarkPassesAlsoWhenIdle() throws Exception {
        FakeConsumer consumer = new FakeConsumer("last-0");
        Testing.with(decoded("last"), harness -> {
            end(harness, 0, 0, NONE, NONE);
            pass(harness, 2 * IDLE_AFTER, consumer);
            assertEquals(List.of(WatermarkStatus.IDLE), sent(harness));
            harness.processWatermark(Long.MAX_VALUE);
            end(harness, 0, 0, 90_000L, 90_000L);
            pass(harness, 2 * IDLE_AFTER, consumer);
            assertEquals(List.of(WatermarkStatus.ACTIVE, Watermark.MAX_WATERMARK), sent(harness));
        });
        consumer.close();
    }

    @Test
    void withoutWatermarksNothingWaitsForThem() throws Exception {
        Testing.with(new Decoded(List.of("a"), null), harness -> {
            end(harness, 0, 0, 90_000L, 90_000L);
            assertEquals(List.of(), sent(harness));
            pass(harness, 1_000, null);
            assertEquals(List.of(WatermarkStatus.IDLE), sent(harness));
            end(harness, 0, 0, 90_000L, 90_000L);
            harness.processWatermark(Long.MAX_VALUE);
            assertEquals(List.of(WatermarkStatus.ACTIVE, Watermark.MAX_WATERMARK), sent(harness));
        });
    }

    @Test
    void partitionsHaveMetricsAsThoseOfFlinksSources() throws Exception {
        Map<String, Gauge<?>> gauges = new HashMap<>();
        var registry = TestingMetricRegistry.builder()
                .setRegisterConsumer((metric, name, group) -> {
                    String scope = String.join(".", group.getScopeComponents());
                    if (metric instanceof Gauge<?> gauge && scope.contains(".split.")) {
                        gauges.put(scope.substring(scope.indexOf(".split.")) + "." + name, gauge);
                    }
                })
                .build();
        var task = TaskManagerMetricGroup.createTaskManagerMetricGroup(registry, "localhost", ResourceID.generate())
                .addJob(new JobID(), "job")
                .addTask(ExecutionGraphTestUtils.createExecutionAttemptId(), "task");
        var environment = new MockEnvironmentBuilder().setMetricGroup(task).build();
        FakeConsumer consumer = new FakeConsumer("metrics-0");
        var harness = new OneInputStreamOperatorTestHarness<>(decoded("metrics"), environment);
        try {
            harness.setProcessingTime(100_000);
            harness.open();
            end(harness, 0, 0, NONE, NONE, 1, 7, 90_000L, 90_000L);
            pass(harness, 200, consumer);
            String[] names = {".split.a-0.watermark.", ".split.b-7.watermark."};
            assertEquals(NONE, gauges.get(names[0] + "currentWatermark").getValue());
            assertEquals(89_000L, gauges.get(names[1] + "currentWatermark").getValue());
            assertEquals(0L, gauges.get(names[0] + "idleTimeMsPerSecond").getValue());
            pass(harness, IDLE_AFTER, consumer);
            assertEquals(1000L, gauges.get(names[0] + "idleTimeMsPerSecond").getValue());
            assertTrue(gauges.keySet().stream().allMatch(name -> name.startsWith(names[0]) || name.startsWith(names[1])));
        } finally {
            harness.close();
            environment.close();
            consumer.close();
        }
    }
}
