package surecount;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.config.ConfigException;

/**
 * What the settings of {@code [kafka.security]} refer to, read where a client runs.
 *
 * <p>A client has them as {@code surecount.security.NAME}. They are paths and names of environment variables, so Flink
 * may write them down. {@code surecount/kafka/security.py} reads the same by the same rules for librdkafka. No exception
 * shows a secret.
 */
final class Secret {

    private static final String PREFIX = "surecount.security.";

    private Secret() {}

    /** A setting of a client; null where it is not given. */
    static String setting(Map<String, ?> configs, String name) {
        return (String) configs.get(PREFIX + name);
    }

    /** The password, without the end of its line. */
    static String password(Map<String, ?> configs) {
        String variable = setting(configs, "password_env");
        if (variable != null) {
            String value = System.getenv(variable);
            if (value == null || value.isEmpty()) {
                throw refused("the environment variable " + variable + " is not set", "password_env");
            }
            return value;
        }
        String text = text(configs, "password_file");
        if (text.endsWith("\n")) {
            text = text.substring(0, text.length() - (text.endsWith("\r\n") ? 2 : 1));
        }
        if (text.isEmpty() || text.chars().anyMatch(c -> c == '\n' || c == '\r' || c == 0) || text.startsWith("\ufeff")) {
            throw refused(setting(configs, "password_file") + " does not hold one line, the password", "password_file");
        }
        return text;
    }

    /** The content of the file that a setting names. */
    static String text(Map<String, ?> configs, String name) {
        String path = setting(configs, name);
        if (path == null) {
            throw refused("nothing is given", name);
        }
        try {
            byte[] content = Files.readAllBytes(path(path, name));
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(content)).toString();
        } catch (CharacterCodingException e) {
            throw refused(path + " is not UTF-8", name);
        } catch (IOException e) {
            throw refused(path + " cannot be read on this machine: " + e.getClass().getSimpleName(), name);
        }
    }

    private static Path path(String path, String name) {
        if (!path.startsWith("${")) {
            return Path.of(path);
        }
        int end = path.indexOf('}');
        String variable = path.substring(2, end);
        String start = System.getenv(variable);
        if (start == null || start.isEmpty()) {
            throw refused(path + ": the environment variable " + variable + " is not set", name);
        }
        return Path.of(start + path.substring(end + 1));
    }

    private static ConfigException refused(String why, String name) {
        return new ConfigException("security." + name + ": " + why);
    }
}
