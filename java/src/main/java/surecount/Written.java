package surecount;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import org.apache.flink.connector.kafka.lineage.DefaultKafkaDatasetFacet;
import org.apache.flink.connector.kafka.lineage.DefaultKafkaDatasetIdentifier;
import org.apache.flink.connector.kafka.lineage.KafkaDatasetFacet;
import org.apache.flink.connector.kafka.lineage.KafkaDatasetFacetProvider;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;

/**
 * Makes Kafka's records of {@link Outgoing} ones, for one topic.
 *
 * <p>With a limit, a record that has more bytes is written without its value, of which headers tell the size, the
 * digest and the beginning. If that does not suffice, the largest of key and headers are left out, and a header names
 * them. So any record can be written.
 */
public final class Written implements KafkaRecordSerializationSchema<byte[][]>, KafkaDatasetFacetProvider {

    private static final long serialVersionUID = 1L;

    private static final String OURS = "surecount.";
    static final String SIZE = "surecount.size";
    static final String SHA256 = "surecount.sha256";
    static final String HEAD = "surecount.head";
    static final String OMITTED = "surecount.omitted";

    /** How much of a value's beginning, and of the names of what is left out, is written. */
    static final int HEAD_BYTES = 1000;

    /** What Kafka needs at most for a record beside its parts, and for a header: lengths, of up to 5 bytes each. */
    private static final int RECORD_BYTES = 100;

    private static final int HEADER_BYTES = 10;

    private final String topic;
    private final int most;

    /** A limit of 0 is none. */
    public Written(String topic, int most) {
        this.topic = topic;
        this.most = most;
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(byte[][] outgoing, KafkaSinkContext context, Long timestamp) {
        byte[][] parts = most > 0 && size(outgoing) > most ? small(outgoing) : outgoing;
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(
                topic, null, timestamp(parts[Outgoing.TIMESTAMP]), parts[Outgoing.KEY], parts[Outgoing.VALUE]);
        for (int i = Outgoing.HEADERS; i < parts.length; i += 2) {
            record.headers().add(new String(parts[i], StandardCharsets.UTF_8), parts[i + 1]);
        }
        return record;
    }

    /** Kafka's producers send no negative timestamp. */
    private static Long timestamp(byte[] bytes) {
        return bytes == null ? null : Math.max(0, Pack.view(bytes).getLong());
    }

    private static long size(byte[][] parts) {
        long size = RECORD_BYTES;
        for (int i = Outgoing.KEY; i < parts.length; i++) {
            size += length(parts[i]);
        }
        return size + (long) HEADER_BYTES * ((parts.length - Outgoing.HEADERS) / 2);
    }

    private static int length(byte[] bytes) {
        return bytes == null ? 0 : bytes.length;
    }

    private byte[][] small(byte[][] outgoing) {
        byte[] value = outgoing[Outgoing.VALUE];
        List<byte[]> parts = new ArrayList<>(Arrays.asList(outgoing));
        parts.set(Outgoing.VALUE, null);
        if (value != null) {
            add(parts, SIZE, ascii(Integer.toString(value.length)));
            add(parts, SHA256, ascii(HexFormat.of().formatHex(sha256(value))));
            add(parts, HEAD, Arrays.copyOf(value, Math.min(value.length, HEAD_BYTES)));
        }
        byte[][] found = parts.toArray(new byte[0][]);
        return size(found) > most ? smaller(found, outgoing.length) : found;
    }

    /** Without the largest of the key and of the headers before {@code end}: those behind tell of the value. */
    private byte[][] smaller(byte[][] parts, int end) {
        List<Integer> largest = new ArrayList<>();
        largest.add(Outgoing.KEY);
        for (int i = Outgoing.HEADERS; i < end; i += 2) {
            // The job's own ones say where the record is from, and why it is here.
            if (!new String(parts[i], StandardCharsets.UTF_8).startsWith(OURS)) {
                largest.add(i);
            }
        }
        largest.sort(Comparator.comparingInt((Integer part) -> bytes(parts, part)).reversed());
        boolean[] isOmitted = new boolean[parts.length];
        List<String> names = new ArrayList<>();
        long size = size(parts) + HEADER_BYTES + OMITTED.length() + HEAD_BYTES;
        for (int part : largest) {
            if (size <= most) {
                break;
            }
            size -= bytes(parts, part);
            isOmitted[part] = true;
            names.add(part == Outgoing.KEY ? "key" : "header " + new String(parts[part], StandardCharsets.UTF_8));
        }
        List<byte[]> left = new ArrayList<>();
        left.add(parts[Outgoing.TIMESTAMP]);
        left.add(isOmitted[Outgoing.KEY] ? null : parts[Outgoing.KEY]);
        left.add(parts[Outgoing.VALUE]);
        for (int i = Outgoing.HEADERS; i < parts.length; i += 2) {
            if (!isOmitted[i]) {
                left.add(parts[i]);
                left.add(parts[i + 1]);
            }
        }
        add(left, OMITTED, said(names));
        return left.toArray(new byte[0][]);
    }

    /** What it saves to leave out the key, or a header. */
    private static int bytes(byte[][] parts, int part) {
        return part == Outgoing.KEY
                ? length(parts[part])
                : HEADER_BYTES + length(parts[part]) + length(parts[part + 1]);
    }

    /** The names, as many as there is room for. */
    private static byte[] said(List<String> names) {
        StringBuilder said = new StringBuilder();
        for (int i = 0; i < names.size(); i++) {
            String next = (i == 0 ? "" : ", ") + names.get(i);
            // A character has three bytes of UTF-8 at most, a pair of them four.
            if (3 * (said.length() + next.length()) > HEAD_BYTES - 30) {
                said.append(i == 0 ? "" : ", ").append(names.size() - i).append(" more");
                break;
            }
            said.append(next);
        }
        return said.toString().getBytes(StandardCharsets.UTF_8);
    }

    private static void add(List<byte[]> parts, String name, byte[] value) {
        parts.add(ascii(name));
        parts.add(value);
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }

    private static byte[] sha256(byte[] value) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(value);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    /** The topic: Flink lists its transactions before it begins any. */
    @Override
    public Optional<KafkaDatasetFacet> getKafkaDatasetFacet() {
        return Optional.of(new DefaultKafkaDatasetFacet(
                DefaultKafkaDatasetIdentifier.ofTopics(List.of(topic)), new Properties()));
    }
}
