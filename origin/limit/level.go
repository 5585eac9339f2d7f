package limit

// A Level says how important a request is: the lower goes first. Its upper bits
// are a priority, its lower ones tell the visitors of one priority apart, after
// Zhou et al., "Overload Control for Scaling WeChat Microservices" (SoCC 2018).
// The zero value is the most important.
type Level uint16

const (
	// Priorities is how many priorities there are; 0 is the most important.
	Priorities = 8
	// Users is how many groups of visitors there are in each.
	Users  = 128
	levels = Priorities * Users
)

// LevelOf is the level of a priority and a group of visitors. What lies outside is
// taken for the least important.
func LevelOf(priority, user int) Level {
	return Level(bounded(priority, Priorities)*Users + bounded(user, Users))
}

func bounded(n, count int) int {
	if n < 0 || n >= count {
		return count - 1
	}
	return n
}

// priority is the upper part of a level.
func (l Level) priority() int { return min(int(l), levels-1) / Users }
