package surecount;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.config.ConfigException;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;

/**
 * Makes of the records that a consumer polls a few packs of them, each a record of Kafka's for whoever polls.
 *
 * <p>What Flink does with a record until Python has it costs more than all that follows. It does it with packs, and a
 * pack costs as much as a record. A pack is of one partition. {@link Pack} has the layout.
 *
 * <p>The last pack of a poll has the offset before the consumer's position, which is behind the markers of transactions
 * that follow its last record; a pack of no records stands for markers alone. So offsets in snapshots do not point at
 * what retention deletes with the records before it.
 */
public final class PackingInterceptor implements ConsumerInterceptor<byte[], byte[]> {

    /** The layout that the job reads; another than {@link Pack#LAYOUT} is refused. */
    static final String LAYOUT_CONFIG = "surecount.pack.layout";

    /** How many records a pack holds at most. */
    static final String RECORDS_CONFIG = "surecount.pack.records";

    /**
     * Of values that are JSON, the members that fields of the pipeline are in: their names, with quotes between them.
     * Values are projected to them.
     */
    static final String FIELDS_CONFIG = "surecount.pack.fields";

    /** The topics that others write, with semicolons between them: names of their headers are put aside. */
    static final String FOREIGN_CONFIG = "surecount.pack.foreign";

    /** How many bytes of a value cross to Python at most; of one that has more, only its size does. */
    static final String MOST_CONFIG = "surecount.pack.most";

    /** Of a pack of more than one record. It keeps batches of packs close to their own limit. */
    private static final int MOST_BYTES = 32 << 10;

    private int mostRecords;
    private Packer packer;
    private Reading reading;
    private Set<String> foreign;

    @Override
    public void configure(Map<String, ?> configs) {
        Object layout = configs.get(LAYOUT_CONFIG);
        if (!Integer.toString(Pack.LAYOUT).equals(layout)) {
            throw new ConfigException(LAYOUT_CONFIG, layout, "this jar makes packs of layout " + Pack.LAYOUT
                    + "; job and jar have to be of one version of surecount");
        }
        mostRecords = Integer.parseInt((String) configs.get(RECORDS_CONFIG));
        String fields = (String) configs.get(FIELDS_CONFIG);
        String most = (String) configs.get(MOST_CONFIG);
        packer = new Packer(
                fields == null ? null : new Projection(fields),
                most == null ? Integer.MAX_VALUE : Integer.parseInt(most));
        String others = (String) configs.get(FOREIGN_CONFIG);
        foreign = others == null ? Set.of() : new HashSet<>(Arrays.asList(others.split(";")));
        reading = Reading.of((String) configs.get(ConsumerConfig.CLIENT_ID_CONFIG));
    }

    @Override
    public ConsumerRecords<byte[], byte[]> onConsume(ConsumerRecords<byte[], byte[]> records) {
        try {
            Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> packs = new HashMap<>();
            for (TopicPartition partition : records.nextOffsets().keySet()) {
                long next = records.nextOffsets().get(partition).offset();
                packs.put(partition, packs(partition, records.records(partition), next));
            }
            await(packs);
            return new ConsumerRecords<>(packs, records.nextOffsets());
        } catch (RuntimeException e) {
            // Kafka only logs an exception, and goes on with the records as they came: they would be taken for packs.
            throw new AssertionError("these records cannot be packed", e);
        }
    }

    /** Waits until the task has taken enough of the packs before. */
    private void await(Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> packs) {
        List<ConsumerRecord<byte[], byte[]>> taken = new ArrayList<>();
        long bytes = 0;
        for (var ofPartition : packs.entrySet()) {
            for (ConsumerRecord<byte[], byte[]> pack : ofPartition.getValue()) {
                // Flink's source drops the others.
                if (pack.offset() < reading.stop(ofPartition.getKey())) {
                    taken.add(pack);
                    bytes += pack.value().length;
                }
            }
        }
        reading.await(bytes);
        taken.forEach(reading::add);
    }

    private List<ConsumerRecord<byte[], byte[]>> packs(
            TopicPartition partition, List<ConsumerRecord<byte[], byte[]>> records, long next) {
        long end = reading.stop(partition);
        List<ConsumerRecord<byte[], byte[]>> packs =
                records.isEmpty() ? new ArrayList<>() : packs(records, end, foreign.contains(partition.topic()));
        // A bounded source stops by the offsets of records.
        if (end == Reading.NO_STOP && (records.isEmpty() || records.get(records.size() - 1).offset() < next - 1)) {
            byte[] content = records.isEmpty()
                    ? Pack.announcement(0, partition.partition())
                    : packs.remove(packs.size() - 1).value();
            packs.add(Packer.record(partition, next - 1, content));
        }
        return packs;
    }

    /** Runs of records as packs; each record from {@code end} on by itself. */
    List<ConsumerRecord<byte[], byte[]>> packs(
            List<ConsumerRecord<byte[], byte[]>> records, long end, boolean aside) {
        List<ConsumerRecord<byte[], byte[]>> packs = new ArrayList<>(records.size() / mostRecords + 1);
        int first = 0;
        long bytes = 0;
        for (int next = 0; next < records.size(); next++) {
            ConsumerRecord<byte[], byte[]> record = records.get(next);
            long size = size(record);
            boolean fits = next - first < mostRecords && bytes + size <= MOST_BYTES && record.offset() < end;
            if (next > first && !fits) {
                packs.add(packer.pack(records.subList(first, next), aside));
                first = next;
                bytes = 0;
            }
            bytes += size;
        }
        packs.add(packer.pack(records.subList(first, records.size()), aside));
        return packs;
    }

    private static long size(ConsumerRecord<byte[], byte[]> record) {
        long size = Pack.ENTRY_BYTES
                + (long) Math.max(record.serializedKeySize(), 0)
                + Math.max(record.serializedValueSize(), 0);
        for (Header header : record.headers()) {
            size += Pack.HEADER_ENTRY_BYTES + header.key().length();
            size += header.value() == null ? 0 : header.value().length;
        }
        return size;
    }

    @Override
    public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets) {}

    @Override
    public void close() {}
}
