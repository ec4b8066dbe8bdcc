import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.NameCallback;
import javax.security.auth.callback.PasswordCallback;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.admin.Admin;
import surecount.SaslCredentials;

/**
 * Makes a client of each line of properties on standard input, which are names and values in hexadecimal digits with
 * tabs between them, and prints the name and the password that it would log in with, so encoded, or the cause where it
 * cannot be made.
 */
public class Credentials {

    public static void main(String[] args) throws Exception {
        try (Scanner lines = new Scanner(System.in, StandardCharsets.UTF_8)) {
            while (lines.hasNextLine()) {
                String[] parts = lines.nextLine().split("\t", -1);
                Map<String, Object> properties = new HashMap<>();
                for (int i = 0; i < parts.length; i += 2) {
                    properties.put(text(parts[i]), text(parts[i + 1]));
                }
                System.out.println(of(properties));
            }
        }
    }

    private static String of(Map<String, Object> properties) throws Exception {
        try {
            Admin.create(properties).close();
        } catch (RuntimeException e) {
            Throwable cause = e;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            return "refused\t" + digits(cause.getMessage());
        }
        if (!properties.containsKey("sasl.mechanism")) {
            return "made";
        }
        SaslCredentials credentials = new SaslCredentials();
        credentials.configure(properties, "PLAIN", List.of());
        NameCallback name = new NameCallback("name");
        PasswordCallback password = new PasswordCallback("password", false);
        credentials.handle(new Callback[] {name, password});
        return "made\t" + digits(name.getName()) + "\t" + digits(new String(password.getPassword()));
    }

    private static String text(String digits) {
        return new String(HexFormat.of().parseHex(digits), StandardCharsets.UTF_8);
    }

    private static String digits(String text) {
        return HexFormat.of().formatHex(text.getBytes(StandardCharsets.UTF_8));
    }
}
