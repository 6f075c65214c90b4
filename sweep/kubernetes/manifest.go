package kubernetes

// The parts of a Job that are used here, with the names and in the order of the
// API's reference (batch/v1 and core/v1). backoffLimitPerIndex and FailIndex are
// in their beta, and on, since Kubernetes 1.29, and stable since 1.33.

type job struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Spec       jobSpec  `yaml:"spec"`
}

type metadata struct {
	Name        string            `yaml:"name,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

type jobSpec struct {
	CompletionMode       string        `yaml:"completionMode"`
	Completions          int           `yaml:"completions"`
	Parallelism          int           `yaml:"parallelism"`
	BackoffLimitPerIndex int           `yaml:"backoffLimitPerIndex"`
	PodReplacementPolicy string        `yaml:"podReplacementPolicy"`
	PodFailurePolicy     failurePolicy `yaml:"podFailurePolicy"`
	Template             template      `yaml:"template"`
}

type failurePolicy struct {
	Rules []failureRule `yaml:"rules"`
}

type failureRule struct {
	Action          string         `yaml:"action"`
	OnExitCodes     *exitCodes     `yaml:"onExitCodes,omitempty"`
	OnPodConditions []podCondition `yaml:"onPodConditions,omitempty"`
}

type exitCodes struct {
	ContainerName string `yaml:"containerName"`
	Operator      string `yaml:"operator"`
	Values        []int  `yaml:"values,flow"`
}

type podCondition struct {
	Type   string `yaml:"type"`
	Status string `yaml:"status"`
}

type template struct {
	Metadata metadata `yaml:"metadata"`
	Spec     podSpec  `yaml:"spec"`
}

type podSpec struct {
	RestartPolicy string      `yaml:"restartPolicy"`
	Grace         int         `yaml:"terminationGracePeriodSeconds"`
	Containers    []container `yaml:"containers"`
	Volumes       []volume    `yaml:"volumes"`
}

type container struct {
	Name      string        `yaml:"name"`
	Image     string        `yaml:"image"`
	Command   []string      `yaml:"command"`
	Resources resources     `yaml:"resources"`
	Mounts    []volumeMount `yaml:"volumeMounts"`
}

type resources struct {
	Requests map[string]string `yaml:"requests"`
	Limits   map[string]string `yaml:"limits,omitempty"`
}

type volumeMount struct {
	Name      string `yaml:"name"`
	MountPath string `yaml:"mountPath"`
}

type volume struct {
	Name  string `yaml:"name"`
	Claim claim  `yaml:"persistentVolumeClaim"`
}

type claim struct {
	Name string `yaml:"claimName"`
}
