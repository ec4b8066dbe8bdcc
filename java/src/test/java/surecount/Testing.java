package surecount;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.record.TimestampType;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.util.OneInputStreamOperatorTestHarness;
import org.apache.flink.util.OutputTag;

/** What several tests need. Bytes are compared as texts. */
final class Testing {

    private Testing() {}

    static byte[] utf8(String text) {
        return text == null ? null : text.getBytes(UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, UTF_8);
    }

    /** An outgoing record: its timestamp, then its other parts as texts. */
    static List<Object> shown(byte[][] outgoing) {
        List<Object> shown = new ArrayList<>();
        shown.add(outgoing[0] == null ? null : Pack.view(outgoing[0]).getLong());
        for (int i = 1; i < outgoing.length; i++) {
            shown.add(text(outgoing[i]));
        }
        return shown;
    }

    /** The numbers as bytes, little-endian: an Integer has four, a Long eight, texts and arrays their own. */
    static byte[] bytes(Object... parts) {
        ByteBuffer to = Pack.buffer(1 << 16);
        for (Object part : parts) {
            if (part instanceof Integer number) {
                to.putInt(number);
            } else if (part instanceof Long number) {
                to.putLong(number);
            } else {
                to.put(part instanceof byte[] bytes ? bytes : utf8((String) part));
            }
        }
        byte[] bytes = new byte[to.position()];
        to.flip().get(bytes);
        return bytes;
    }

    /** A record of Kafka's; headers are names and values in turns. */
    static ConsumerRecord<byte[], byte[]> record(
            String topic, int partition, long offset, long ms, byte[] key, byte[] value, Object... headers) {
        RecordHeaders of = new RecordHeaders();
        for (int i = 0; i < headers.length; i += 2) {
            of.add((String) headers[i], (byte[]) headers[i + 1]);
        }
        return new ConsumerRecord<>(
                topic,
                partition,
                offset,
                ms,
                TimestampType.CREATE_TIME,
                key == null ? -1 : key.length,
                value == null ? -1 : value.length,
                key,
                value,
                of,
                Optional.empty());
    }

    static ConsumerRecord<byte[], byte[]> record(long offset, byte[] value) {
        return record("events", 0, offset, 0, null, value);
    }

    /** A pack of records of these values. */
    static byte[] pack(Packer packer, byte[]... values) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (byte[] value : values) {
            records.add(record(records.size(), value));
        }
        return packer.pack(records, false).value();
    }

    /** Values that differ from one another, the first one empty and the second one null. */
    static byte[][] values(int count, int size, Random random) {
        byte[][] values = new byte[count][];
        for (int i = 0; i < count; i++) {
            values[i] = i == 1 ? null : new byte[i == 0 ? 0 : size];
            if (i > 1) {
                random.nextBytes(values[i]);
            }
        }
        return values;
    }

    interface Body<I, O> {
        void run(OneInputStreamOperatorTestHarness<I, O> harness) throws Exception;
    }

    /** Runs an operator, from its opening to its end. */
    static <I, O> void with(OneInputStreamOperator<I, O> operator, Body<I, O> body) throws Exception {
        OneInputStreamOperatorTestHarness<I, O> harness = new OneInputStreamOperatorTestHarness<>(operator);
        try {
            harness.setProcessingTime(0);
            harness.open();
            body.run(harness);
        } finally {
            harness.close();
        }
    }

    /** What an operator has sent since this was asked last, records as what is in them. */
    static List<Object> sent(OneInputStreamOperatorTestHarness<?, ?> harness) {
        List<Object> sent = new ArrayList<>();
        for (Object one : harness.getOutput()) {
            sent.add(one instanceof StreamRecord<?> record ? record.getValue() : one);
        }
        harness.getOutput().clear();
        return sent;
    }

    static List<List<Object>> side(OneInputStreamOperatorTestHarness<?, ?> harness, OutputTag<byte[][]> tag) {
        var queue = harness.getSideOutput(tag);
        return queue == null ? List.of() : queue.stream().map(one -> shown(one.getValue())).toList();
    }
}
