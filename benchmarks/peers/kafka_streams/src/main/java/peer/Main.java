package peer;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.streams.KafkaStreams;

/** Runs {@link Windows} until it fails or is told to end. Its arguments are the work and the settings, both as JSON. */
public final class Main {
    static final ObjectMapper JSON =
            new ObjectMapper().disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES);

    private Main() {}

    public static void main(String[] args) throws Exception {
        Work work = JSON.readValue(args[0], Work.class);
        Properties settings = JSON.readValue(args[1], Properties.class);
        var topology = new Windows(work, partitions(work, settings)).topology();
        System.err.println(topology.describe());
        var streams = new KafkaStreams(topology, settings);
        var failed = new CountDownLatch(1);
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                failed.countDown();
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        failed.await();
        System.exit(1);
    }

    private static int partitions(Work work, Properties settings) throws Exception {
        try (Admin admin = Admin.create(settings)) {
            var topics = List.of(work.source());
            return admin.describeTopics(topics).allTopicNames().get().get(work.source()).partitions().size();
        }
    }
}
