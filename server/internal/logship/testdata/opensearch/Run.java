import static org.codelibs.opensearch.runner.OpenSearchRunner.newConfigs;

import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One OpenSearch node on loopback: java -cp 'JARS/*' Run.java DIR PORT. It ends with its standard input. */
public class Run {
  public static void main(String[] args) throws Exception {
    OpenSearchRunner runner = new OpenSearchRunner();
    runner.onBuild((number, settings) -> {
      settings.put("http.host", "127.0.0.1");
      settings.put("http.port", args[1]);
      settings.put("transport.host", "127.0.0.1");
      settings.put("cluster.routing.allocation.disk.threshold_enabled", false); // a disk that is nine tenths full takes no shards
      settings.putList("node.roles", "cluster_manager", "data", "ingest");
    });
    runner.build(newConfigs().basePath(args[0]).numOfNode(1).clusterName("kaizen-test"));
    runner.ensureYellow();
    System.out.println("ready");
    while (System.in.read() >= 0) {}
    runner.close();
  }
}
