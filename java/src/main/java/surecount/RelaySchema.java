package surecount;

import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.util.Collector;

/**
 * Copies records as they come, and says in one more header where each is from: partition, offset, seconds since 1970 of
 * now, and topic, with blanks between them. Producers' own headers have names by {@link Aside}.
 */
public final class RelaySchema implements KafkaRecordDeserializationSchema<byte[][]> {

    private static final long serialVersionUID = 1L;

    static final String RELAYED = "surecount.relayed";

    private static final byte[] RELAYED_NAME = RELAYED.getBytes(StandardCharsets.US_ASCII);

    /** From the year 1971 to the end of 9998. Other timestamps are no times, and 0 in a copy. */
    private static final long FIRST_MS = 31_536_000_000L;

    private static final long LAST_MS = 253_370_764_799_999L;

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<byte[][]> out) {
        Header[] headers = record.headers().toArray();
        byte[][] copy = new byte[Outgoing.HEADERS + 2 * (headers.length + 1)][];
        long ms = record.timestamp();
        copy[Outgoing.TIMESTAMP] = Pack.buffer(Long.BYTES)
                .putLong(ms >= FIRST_MS && ms <= LAST_MS ? ms : 0)
                .array();
        copy[Outgoing.KEY] = record.key();
        copy[Outgoing.VALUE] = record.value();
        int part = Outgoing.HEADERS;
        for (Header header : headers) {
            copy[part++] = Aside.name(header.key()).getBytes(StandardCharsets.UTF_8);
            copy[part++] = header.value();
        }
        copy[part++] = RELAYED_NAME;
        copy[part] = origin(record).getBytes(StandardCharsets.UTF_8);
        out.collect(copy);
    }

    private static String origin(ConsumerRecord<byte[], byte[]> record) {
        long seconds = System.currentTimeMillis() / 1000;
        return record.partition() + " " + record.offset() + " " + seconds + " " + record.topic();
    }

    @Override
    public TypeInformation<byte[][]> getProducedType() {
        return Outgoing.TYPE;
    }
}
