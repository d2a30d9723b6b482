import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Arrays;
import java.util.Random;

/** Posts bodies with both HTTP clients of the JDK and compares the answers. */
public class EchoClient {
    private static final int ROUNDS = 200;

    public static void main(String[] arguments) throws Exception {
        var address = URI.create("http://127.0.0.1:" + arguments[0] + "/");
        var random = new Random(1);
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        int verified = 0;
        for (int round = 0; round < ROUNDS; round++) {
            var body = new byte[1 + round * 7919 % 300_000];
            random.nextBytes(body);
            var request = HttpRequest.newBuilder(address).POST(HttpRequest.BodyPublishers.ofByteArray(body)).build();
            check(body, client.send(request, HttpResponse.BodyHandlers.ofByteArray()).body());
            check(body, post(address, body));
            verified += 2;
        }
        System.out.println("verified " + verified);
    }

    private static byte[] post(URI address, byte[] body) throws Exception {
        var connection = (HttpURLConnection) address.toURL().openConnection();
        connection.setDoOutput(true);
        connection.setFixedLengthStreamingMode(body.length);
        try (var out = connection.getOutputStream()) {
            out.write(body);
        }
        try (var in = connection.getInputStream()) {
            return in.readAllBytes();
        }
    }

    private static void check(byte[] sent, byte[] received) {
        if (!Arrays.equals(sent, received)) {
            throw new IllegalStateException("the answer to " + sent.length + " bytes differs");
        }
    }
}
