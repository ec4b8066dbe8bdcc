package surecount;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.util.Collector;

/** Passes packs on as they are, and writes into each the number of its topic. */
public final class PackSchema implements KafkaRecordDeserializationSchema<byte[]> {

    private static final long serialVersionUID = 1L;

    private final ArrayList<String> topics;

    /** A topic's number is its place among these. */
    public PackSchema(List<String> topics) {
        this.topics = new ArrayList<>(topics);
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<byte[]> out) throws IOException {
        Reading.taken(record);
        byte[] pack = record.value();
        String fault = Pack.fault(pack);
        if (fault != null) {
            throw new IOException(fault + " (" + record.topic() + " partition " + record.partition() + " offset "
                    + record.offset() + ": " + beginning(pack) + ")");
        }
        Pack.view(pack).putInt(Pack.TOPIC_AT, number(topics, record.topic()));
        out.collect(pack);
    }

    /** A topic's number; an exception for one that the job does not read, as of a snapshot when it did. */
    static int number(List<String> topics, String topic) {
        int number = topics.indexOf(topic);
        if (number < 0) {
            throw new IllegalStateException(
                    "topic " + topic + " is read, but the pipeline's topics are " + String.join(", ", topics));
        }
        return number;
    }

    /** A pack of no records of a partition. */
    byte[] announcement(String topic, int partition) {
        return Pack.announcement(number(topics, topic), partition);
    }

    private static String beginning(byte[] bytes) {
        if (bytes == null) {
            return "null";
        }
        StringBuilder found = new StringBuilder(bytes.length + " bytes");
        for (int i = 0; i < Math.min(bytes.length, Pack.TOPIC_AT); i++) {
            found.append(String.format(" %02x", bytes[i]));
        }
        return found.toString();
    }

    @Override
    public TypeInformation<byte[]> getProducedType() {
        return PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;
    }
}
