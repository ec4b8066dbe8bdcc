import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Scanner;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.record.TimestampType;
import surecount.AsideInterceptor;
import surecount.PackingInterceptor;

/**
 * Gives records from standard input to the interceptor, as one poll, and prints what it makes of them.
 *
 * <p>Arguments are its settings, NAME=VALUE; with "aside" it is the interceptor of relays. A line is a record: partition, offset, timestamp, key, value, and names
 * and values of headers, with tabs between them; bytes are in hexadecimal digits, null is a dash.
 */
public class Pack {

    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] settings) {
        Map<String, Object> configs = new HashMap<>();
        for (String setting : settings) {
            configs.put(setting.substring(0, setting.indexOf('=')), setting.substring(setting.indexOf('=') + 1));
        }
        Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> polled = new LinkedHashMap<>();
        try (Scanner lines = new Scanner(System.in, StandardCharsets.UTF_8)) {
            while (lines.hasNextLine()) {
                ConsumerRecord<byte[], byte[]> record = parse((String) configs.get("topic"), lines.nextLine());
                polled.computeIfAbsent(new TopicPartition(record.topic(), record.partition()), p -> new ArrayList<>())
                        .add(record);
            }
        }
        try (ConsumerInterceptor<byte[], byte[]> interceptor =
                configs.containsKey("aside") ? new AsideInterceptor() : new PackingInterceptor()) {
            interceptor.configure(configs);
            for (ConsumerRecord<byte[], byte[]> pack : interceptor.onConsume(new ConsumerRecords<>(polled, Map.of()))) {
                System.out.println(print(pack));
            }
        }
    }

    private static ConsumerRecord<byte[], byte[]> parse(String topic, String line) {
        String[] parts = line.split("\t", -1);
        RecordHeaders headers = new RecordHeaders();
        for (int i = 5; i < parts.length; i += 2) {
            headers.add(new String(bytes(parts[i]), StandardCharsets.UTF_8), bytes(parts[i + 1]));
        }
        byte[] key = bytes(parts[3]);
        byte[] value = bytes(parts[4]);
        return new ConsumerRecord<>(
                topic,
                Integer.parseInt(parts[0]),
                Long.parseLong(parts[1]),
                Long.parseLong(parts[2]),
                TimestampType.CREATE_TIME,
                key == null ? -1 : key.length,
                value == null ? -1 : value.length,
                key,
                value,
                headers,
                Optional.empty());
    }

    private static String print(ConsumerRecord<byte[], byte[]> pack) {
        List<String> parts = new ArrayList<>();
        parts.add(Integer.toString(pack.partition()));
        parts.add(Long.toString(pack.offset()));
        parts.add(Long.toString(pack.timestamp()));
        parts.add(digits(pack.key()));
        parts.add(digits(pack.value()));
        for (Header header : pack.headers()) {
            parts.add(digits(header.key().getBytes(StandardCharsets.UTF_8)));
            parts.add(digits(header.value()));
        }
        return String.join("\t", parts);
    }

    private static byte[] bytes(String digits) {
        return digits.equals("-") ? null : HEX.parseHex(digits);
    }

    private static String digits(byte[] bytes) {
        return bytes == null ? "-" : HEX.formatHex(bytes);
    }
}
