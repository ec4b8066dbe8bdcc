package surecount;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.UnaryOperator;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.PartitionInfo;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.config.ConfigException;

/**
 * Makes of the records that a consumer polls a few packs of them, each a record of Kafka's for whoever polls.
 *
 * <p>What Flink does with a record until Python has it costs more than all that follows. It does it with packs, and a
 * pack costs as much as a record. A pack is of one partition and has the offset of its last record, so offsets in
 * snapshots are what they would be without packs. {@link Pack} has the layout.
 *
 * <p>Of a poll that brings few records of a partition each is a pack, so that the event time of each can move the
 * watermark.
 */
public final class PackingInterceptor implements ConsumerInterceptor<byte[], byte[]> {

    /** The layout that the job reads; another than {@link Pack#LAYOUT} is refused. */
    static final String LAYOUT_CONFIG = "surecount.pack.layout";

    /** How many records a pack holds at most. */
    static final String RECORDS_CONFIG = "surecount.pack.records";

    /** Which record gives a pack its time, headers and sample: the "last", or the "youngest" by Kafka's timestamp. */
    static final String SAMPLE_CONFIG = "surecount.pack.sample";

    /** Of a source that is to stop at the topics' ends: the topics, with semicolons between them. */
    static final String BOUNDED_CONFIG = "surecount.pack.bounded";

    /** Of values that are JSON, what is read of them: names of members, with quotes between them. Values are skimmed. */
    static final String FIELDS_CONFIG = "surecount.pack.fields";

    /** The topics that others write, with semicolons between them: names of their headers are put aside. */
    static final String FOREIGN_CONFIG = "surecount.pack.foreign";

    /** Records of a partition that a poll may bring before they are packed together, and that may go without sample. */
    private static final int FEW = 16;

    /**
     * Of a pack of more than one record, headers aside. What crosses to Python waits for it in direct memory, of which
     * Flink grants 128 MB where nobody asks for more.
     */
    private static final int MOST_BYTES = 32 << 10;

    private int mostRecords;
    private boolean youngest;
    private UnaryOperator<byte[]> skim;
    private Map<TopicPartition, Long> ends;
    private Set<String> foreign;

    @Override
    public void configure(Map<String, ?> configs) {
        if (!Pack.LAYOUT.equals(configs.get(LAYOUT_CONFIG))) {
            throw new ConfigException(LAYOUT_CONFIG, configs.get(LAYOUT_CONFIG), "this jar makes packs of layout "
                    + Pack.LAYOUT + "; job and jar have to be of one version of surecount");
        }
        mostRecords = Integer.parseInt((String) configs.get(RECORDS_CONFIG));
        youngest = "youngest".equals(configs.get(SAMPLE_CONFIG));
        String fields = (String) configs.get(FIELDS_CONFIG);
        skim = fields == null ? UnaryOperator.identity() : new Skimmer(fields)::skim;
        String others = (String) configs.get(FOREIGN_CONFIG);
        foreign = others == null ? Set.of() : new HashSet<>(Arrays.asList(others.split(";")));
        String bounded = (String) configs.get(BOUNDED_CONFIG);
        ends = bounded == null ? null : ends(Arrays.asList(bounded.split(";")), configs);
    }

    /**
     * The topics' ends of now. A bounded source asks for them after this and stops there, so they are the same or
     * further then. It leaves out a pack that reaches beyond the stop, whole: no pack may have it inside.
     */
    private static Map<TopicPartition, Long> ends(List<String> topics, Map<String, ?> configs) {
        Map<String, Object> own = new HashMap<>(configs);
        own.remove(ConsumerConfig.INTERCEPTOR_CLASSES_CONFIG);
        own.remove(ConsumerConfig.CLIENT_ID_CONFIG);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(own)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (String topic : topics) {
                for (PartitionInfo found : consumer.partitionsFor(topic)) {
                    partitions.add(new TopicPartition(topic, found.partition()));
                }
            }
            return consumer.endOffsets(partitions);
        }
    }

    @Override
    public ConsumerRecords<byte[], byte[]> onConsume(ConsumerRecords<byte[], byte[]> records) {
        try {
            Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> packs = new HashMap<>();
            for (TopicPartition partition : records.partitions()) {
                boolean aside = foreign.contains(partition.topic());
                packs.put(partition, packs(records.records(partition), end(partition), aside));
            }
            return new ConsumerRecords<>(packs, records.nextOffsets());
        } catch (RuntimeException e) {
            // Kafka only logs an exception, and goes on with the records as they came: they would be taken for packs.
            throw new AssertionError("these records cannot be packed", e);
        }
    }

    private long end(TopicPartition partition) {
        return ends == null ? Long.MAX_VALUE : ends.getOrDefault(partition, 0L);
    }

    /** Runs of records as packs; each record from {@code end} on by itself. */
    private List<ConsumerRecord<byte[], byte[]>> packs(
            List<ConsumerRecord<byte[], byte[]>> records, long end, boolean aside) {
        int most = records.size() <= FEW ? 1 : mostRecords;
        List<ConsumerRecord<byte[], byte[]>> packs = new ArrayList<>(records.size() / most + 1);
        int first = 0;
        int bytes = 0;
        int unsampled = 0;
        for (int next = 0; next < records.size(); next++) {
            ConsumerRecord<byte[], byte[]> record = records.get(next);
            int size = Pack.ENTRY_BYTES
                    + Math.max(record.serializedKeySize(), 0)
                    + Math.max(record.serializedValueSize(), 0);
            boolean fits = next - first < most && bytes + size <= MOST_BYTES && record.offset() < end;
            if (next > first && !fits) {
                unsampled += next - first;
                // To look into a value costs as much as the value is long.
                boolean sampled = unsampled >= FEW || records.size() <= FEW;
                packs.add(Pack.of(records.subList(first, next), youngest, sampled, aside, skim));
                first = next;
                bytes = 0;
                unsampled = sampled ? 0 : unsampled;
            }
            bytes += size;
        }
        packs.add(Pack.of(records.subList(first, records.size()), youngest, true, aside, skim));
        return packs;
    }

    @Override
    public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets) {}

    @Override
    public void close() {}
}
