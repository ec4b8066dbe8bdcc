package surecount;

import java.util.List;
import java.util.Map;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.NameCallback;
import javax.security.auth.callback.PasswordCallback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;

/**
 * Gives a Kafka client its name and password, so that no property of the client holds one.
 *
 * <p>The password is read for each connection: a new one counts without a restart.
 */
public final class SaslCredentials implements AuthenticateCallbackHandler {

    private Map<String, ?> configs;

    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {
        this.configs = configs;
        // A client that could not log in is not made.
        Secret.password(configs);
    }

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (callback instanceof NameCallback name) {
                name.setName(Secret.setting(configs, "username"));
            } else if (callback instanceof PasswordCallback password) {
                password.setPassword(Secret.password(configs).toCharArray());
            } else {
                // SCRAM also asks for extensions, and goes on without.
                throw new UnsupportedCallbackException(callback);
            }
        }
    }

    @Override
    public void close() {}
}
