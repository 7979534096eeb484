// Package cluster carries the requests of gorqlite to the nodes of an rqlite
// cluster and keeps them going while nodes crash, hang or come back.
//
// A [Transport] is an [http.RoundTripper]. gorqlite sees one server; the
// Transport chooses the node:
//
//	conn, err := cluster.Connect("http://10.0.0.1:4001", "http://10.0.0.2:4001", "http://10.0.0.3:4001")
//	store := rqlitestore.New(conn)
//
// List every voting node. A node that is not listed is never talked to: what
// nodes say about each other only tells which of the listed ones leads, so
// credentials go nowhere else and advertised addresses that make no sense on
// this side of a NAT or of Docker do no harm.
//
// The nodes are to be of rqlite 8.36 or newer. One before 8.32 takes
// linearizable for weak, without a word: it may find what was deleted, and a
// deposed leader may be taken for one that leads.
//
// # How a request travels
//
// It goes straight to the leader, with rqlite's redirect parameter: a node that
// does not lead says so instead of passing the request on. So there is no
// forwarding hop, "not the leader" is a certain "not applied", and a follower
// that hung and wakes up has no old write to forward. Only when no listed node
// leads (a load balancer, or only some nodes are listed) are nodes asked to
// forward.
//
// The leader is whoever answers a linearizable SELECT 1: that needs no more
// rights than the store has (query), and a deposed leader cannot pass it. A
// background watch asks all nodes at once when the leader is lost, and every
// few seconds after [Transport.Start]. Requests wait for its finding rather
// than search themselves.
//
// # What is sent twice
//
// A request is repeated, on the same or another node, if it is a read
// (/db/query, GET), if the store has marked its context as repeatable, or if it
// was certainly not applied: no connection came about, or the node said so. All
// else ends in an error that says the outcome is unknown. "leadership lost
// while committing log", which rqlite sends inside a 200, is one of these. An
// error in the SQL, a 400 or a 401 is an answer and goes to the caller at once, but
// for a 401 of a second node while the first may yet answer.
//
// Each attempt has its own timeout ([Config.Timeout]), all together have the
// deadline of the request's context. A repeatable request that has no answer
// after about 100 ms (more where the cluster usually takes longer) is sent to a
// second node too; a budget keeps that from doubling the load of a cluster that
// is merely slow.
//
// # Breakers
//
// A node that refuses connections, or has been silent for a while and does not
// answer a small local read either, gets no more requests: its breaker opens.
// A silent node that is alive gets a strong read as well: a leader whose cluster has
// grown or shrunk may answer no linearizable read before that.
// The watch tries a node in the background, so no request pays for finding out that
// it is back. While there is no leader requests wait for one, up to 5 s after it
// was lost; in a longer outage, one in which leaders come and go and answer nothing
// included, they fail soon, with an error that names every node and its reason.
//
// Nodes that lead at the same time are of two clusters: one was not joined, or has
// lost its data. Of these the breaker is open, too, but for the one that most
// others follow, or that was found first, until they follow that one. A node that
// follows another leader while ours leads is not asked to forward either, and is not
// taken for ours when it comes to lead there. All this goes by the name under which
// a leader answers, which it tells from rqlite 9.4.1 on: of older nodes it cannot be
// told which cluster they are of, and one that was not joined may be taken for ours.
//
// A leader that is started again without its data leads a cluster of its own before
// the others have elected the next leader, under the address by which they still know
// theirs. That the store's table is gone is no answer, therefore, where there are
// several nodes: the request is repeated until another leader answers it, or for 5 s.
// Then the table was dropped.
//
// Creating a Transport does no I/O. It opens with every node down and works
// soon after they are up.
package cluster
