package sign

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A machine gives credentials as a container does: by a server on loopback. Each
// answer has another key.
type machine struct {
	*httptest.Server
	asked  atomic.Int32
	life   atomic.Int64  // of what it gives, in nanoseconds
	answer chan struct{} // holds answers back unless it is closed
	open   func()        // closes it
}

func newMachine(t *testing.T, holds bool) *machine {
	t.Helper()
	m := &machine{answer: make(chan struct{})}
	m.life.Store(int64(time.Hour))
	var release sync.Once
	m.open = func() { release.Do(func() { close(m.answer) }) }
	if !holds {
		m.open()
	}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := m.asked.Add(1)
		select {
		case <-m.answer:
		case <-r.Context().Done():
		}
		fmt.Fprintf(w, `{"AccessKeyId":"key%d","SecretAccessKey":"secret","Token":"token","Expiration":%q}`,
			n, time.Now().Add(time.Duration(m.life.Load())).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(m.Close)
	t.Cleanup(m.open)
	return m
}

// machineOf is a signer on that machine.
func machineOf(t *testing.T, m *machine) *Signer {
	t.Helper()
	bare(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", m.URL+"/")
	s := newSigner(t, Source{Region: "us-east-1"})
	t.Cleanup(func() { s.settle() })
	return s
}

// settle waits for the load that runs, if one does.
func (s *Signer) settle() {
	s.mu.Lock()
	loading := s.loading
	s.mu.Unlock()
	if loading != nil {
		<-loading
	}
}

func (s *Signer) key(t *testing.T) string {
	t.Helper()
	keys, err := s.credentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys.AccessKeyID
}

func TestManyCallsLoadOnce(t *testing.T) {
	m := newMachine(t, false)
	s := machineOf(t, m)
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			if keys, err := s.credentials(t.Context()); err != nil || keys.AccessKeyID != "key1" {
				t.Errorf("%s, %v", keys.AccessKeyID, err)
			}
		})
	}
	calls.Wait()
	if n := m.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// A refresh that hangs holds no call up while the credentials in hand are good.
func TestRefreshHoldsNoCallUp(t *testing.T) {
	m := newMachine(t, false)
	s := machineOf(t, m)
	if key := s.key(t); key != "key1" {
		t.Fatal(key)
	}
	m.answer = make(chan struct{})
	s.mu.Lock()
	s.next = time.Now()
	s.mu.Unlock()
	for range 10 {
		if key := s.key(t); key != "key1" {
			t.Fatal(key)
		}
	}
	close(m.answer)
	s.settle()
	if key, n := s.key(t), m.asked.Load(); key != "key2" || n != 2 {
		t.Errorf("%s after %d questions", key, n)
	}
}

func TestRefusedCredentialsAreLoadedAnew(t *testing.T) {
	m := newMachine(t, false)
	s := machineOf(t, m)
	s.key(t)
	s.Doubt()
	s.key(t)
	s.settle()
	if n := m.asked.Load(); n != 1 {
		t.Errorf("asked %d times: they had just been loaded", n)
	}
	s.mu.Lock()
	s.loaded = s.loaded.Add(-doubtPause)
	s.mu.Unlock()
	s.Doubt()
	s.key(t)
	s.settle()
	if key := s.key(t); key != "key2" {
		t.Errorf("still %s", key)
	}
}

// expire ends the credentials in hand, as a clock that is set ahead does.
func (s *Signer) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys.Expires = time.Now().Add(-time.Hour)
}

// A clock that is set ahead ends credentials before their replacement is due:
// others are fetched, rather than to sign with none.
func TestClockThatJumpsReplacesCredentials(t *testing.T) {
	m := newMachine(t, false)
	s := machineOf(t, m)
	s.key(t)
	s.expire()
	if key := s.key(t); key != "key2" {
		t.Errorf("signs with %q", key)
	}
	m.life.Store(int64(-time.Hour))
	s.expire()
	if keys, err := s.credentials(t.Context()); err == nil {
		t.Errorf("signs with %q", keys.AccessKeyID)
	}
	if _, err := s.credentials(t.Context()); err == nil || m.asked.Load() != 3 {
		t.Errorf("asked %d times: a load that failed is not repeated at once (%v)", m.asked.Load(), err)
	}
}

// What has expired is not used, even if nothing else can be had.
func TestExpiredCredentialsAreNotUsed(t *testing.T) {
	m := newMachine(t, false)
	s := machineOf(t, m)
	s.key(t)
	m.life.Store(int64(-time.Hour))
	s.expire()
	if keys, err := s.credentials(t.Context()); err == nil {
		t.Errorf("signs with %s", keys.AccessKeyID)
	}
}

// A machine whose clock was two hours behind is put right. The correction, which
// is wrong by then, must not end the credentials that it gives: nothing would be
// signed, and nobody would say that the correction is wrong.
func TestClockThatIsPutRightKeepsCredentials(t *testing.T) {
	m := newMachine(t, false)
	s := machineOf(t, m)
	s.Correct(time.Now().Add(2 * time.Hour))
	if key := s.key(t); key != "key1" {
		t.Errorf("signs with %q", key)
	}
	if behind := s.Correct(time.Now()); behind != 0 || s.correct.Load() != nil {
		t.Errorf("AWS's clock says that ours is right, and it is %v behind", behind)
	}
}

// A machine whose clock is two hours ahead gets credentials that have ended by it.
func TestCredentialsOfAMachineAhead(t *testing.T) {
	m := newMachine(t, false)
	m.life.Store(int64(-time.Hour))
	s := machineOf(t, m)
	s.Correct(time.Now().Add(-2 * time.Hour))
	if key := s.key(t); key != "key1" {
		t.Errorf("signs with %q", key)
	}
}

func TestLife(t *testing.T) {
	now := time.Now()
	f := func(left time.Duration, jitter float64, want time.Duration) {
		t.Helper()
		keys := aws.Credentials{CanExpire: left > 0, Expires: now.Add(left)}
		if got := life(keys, now, jitter); got != want {
			t.Errorf("%v left: %v, want %v", left, got, want)
		}
	}
	f(0, 0, 5*time.Minute) // does not expire
	f(0, 1, 10*time.Minute)
	f(6*time.Hour, 0, 6*time.Hour-5*time.Minute)
	f(6*time.Hour, 1, 6*time.Hour-10*time.Minute)
	f(15*time.Minute, 1, 7*time.Minute+30*time.Second)
	f(2*time.Minute, 0, time.Minute)
	f(time.Second, 0, time.Second)
}

// The role is taken on with the machine's own credentials.
func TestRole(t *testing.T) {
	static(t)
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("RoleArn") != "arn:aws:iam::123456789012:role/spillway" || r.FormValue("RoleSessionName") != "spillway" {
			t.Errorf("asked for %v", r.Form)
		}
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>keyOfRole</AccessKeyId>`+
			`<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration></Credentials>`+
			`</AssumeRoleResult></AssumeRoleResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer sts.Close()
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	s := newSigner(t, Source{Region: "us-east-1", RoleARN: "arn:aws:iam::123456789012:role/spillway"})
	if key := s.key(t); key != "keyOfRole" {
		t.Errorf("signs with %s", key)
	}
}
